"""One of two learners of each algorithm with a critic: two policies, two auxiliary modules.

python two_learners.py RENDEZVOUS_FILE RANK
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from ray.rllib.algorithms.cql import CQLConfig
from torch import distributed

from rllib.learners import SAC_FAMILY, auxiliary_spec, built, update
from self_supervised_loss.rllib import AuxiliaryModules

POLICIES = ("p0", "p1")


class LearnsFromFirst(AuxiliaryModules):
    def data_for_module(self, module_id, batch):
        return batch["p0"]


def differing(learner):
    """Returns the IDs of the modules whose weights are not those of the other learner."""
    differing = set()
    for module_id, module in learner.module.items():
        for param in module.parameters():
            both = [torch.empty_like(param) for _ in range(2)]
            distributed.all_gather(both, param.detach())
            if not torch.equal(*both):
                differing.add(module_id)
    return differing


if __name__ == "__main__":
    rendezvous, rank = sys.argv[1], int(sys.argv[2])
    distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)
    for config_class in SAC_FAMILY:
        config = config_class().learners(num_learners=2).debugging(seed=0)
        config.multi_agent(policies={*POLICIES}, policy_mapping_fn=lambda *_, **__: "p0")
        specs = {"rnd": auxiliary_spec(), "other_rnd": auxiliary_spec()}
        learner = built(config, specs, LearnsFromFirst, POLICIES)
        torch.manual_seed(rank)  # each learner has data of its own
        for _ in range(3):
            update(learner, POLICIES)
        # RLlib's CQL reads the gradients of its policies before they have been averaged.
        assert differing(learner) == ({*POLICIES} if config_class is CQLConfig else set())
    distributed.destroy_process_group()
