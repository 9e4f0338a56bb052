"""One of two learners of each algorithm with a critic: two policies, two auxiliary modules.

python two_learners.py RENDEZVOUS_FILE RANK
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from torch import distributed

from rllib.learners import auxiliary_spec, built, update
from self_supervised_loss.rllib import AuxiliaryModules

POLICIES = {"p0", "p1"}


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
    for config in (SACConfig(), TQCConfig(), IQLConfig(), CQLConfig()):
        config.learners(num_learners=2).debugging(seed=0).multi_agent(
            policies=POLICIES, policy_mapping_fn=lambda agent_id, episode: "p0"
        )
        specs = {"rnd": auxiliary_spec(), "other_rnd": auxiliary_spec()}
        learner = built(config, specs, LearnsFromFirst, ("p0", "p1"))
        torch.manual_seed(rank)  # each learner has data of its own
        for _ in range(3):
            update(learner, ("p0", "p1"))
        # RLlib's CQL reads the gradients of its policies before they have been averaged.
        assert differing(learner) == (POLICIES if isinstance(config, CQLConfig) else set())
    distributed.destroy_process_group()
