"""Two learners keep equal weights, and none waits for another that has no data."""

import pytest
import torch
from processes import process_group, run_in_two_processes
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import distributed
from torch.nn.utils import parameters_to_vector

from rllib.learners import (
    POLICIES,
    SAC_FAMILY,
    Decoder,
    ExpectsGradients,
    LearnsFromFirst,
    SharedEncoders,
    auxiliary_spec,
    built,
    config_of,
    update,
)
from self_supervised_loss.rllib import AuxiliaryModules


def train(learner, policies=(DEFAULT_MODULE_ID,)):
    torch.manual_seed(distributed.get_rank())  # different data on each learner
    for _ in range(3):
        update(learner, policies)


def differing(learner):
    """Returns the IDs of the modules whose weights differ between the learners."""
    differing = set()
    for module_id, module in learner.module.items():
        weights = parameters_to_vector(module.parameters()).detach()
        both = [torch.empty_like(weights) for _ in range(2)]
        distributed.all_gather(both, weights)
        if not torch.equal(*both):
            differing.add(module_id)
    return differing


def check_order_of_modules(algorithm):
    """All modules have the same size, so gradients of different modules could be averaged."""
    config = config_of(algorithm).learners(num_learners=2).debugging(seed=0)
    specs = {"rnd": auxiliary_spec(), "other_rnd": auxiliary_spec()}
    learner = built(config, specs, LearnsFromFirst, POLICIES)
    train(learner, POLICIES)
    # RLlib's CQL reads the gradients of its policies before they have been averaged.
    assert differing(learner) == ({*POLICIES} if algorithm == "CQL" else set())


def check_shared_encoder(algorithm, path):
    spec = auxiliary_spec(Decoder, encoders=[path])
    specs = {"decoder": spec, "other_decoder": spec}
    specs["head_only"] = auxiliary_spec(Decoder, encoders=[], head_of="decoder")
    config = config_of(algorithm).learners(num_learners=2).debugging(seed=0)
    learner = built(config, specs, ExpectsGradients, multi_rl_module=SharedEncoders)
    for policies_to_train in (None, []):
        learner.config.multi_agent(policies_to_train=policies_to_train)
        train(learner)
        assert learner.has_expected_gradients()
        assert differing(learner) == set()


def check_absent_data(get_data):
    """Only the first learner has no data, but both raise."""

    class HasDataOnSecond(AuxiliaryModules):
        def data_for_module(self, module_id, batch):
            return batch[DEFAULT_MODULE_ID] if distributed.get_rank() else get_data(batch)

    config = config_of("PPO").learners(num_learners=2)
    learner = built(config, {"rnd": auxiliary_spec()}, HasDataOnSecond)
    with pytest.raises(ValueError, match="no data for 'rnd' on at least one learner"):
        update(learner)


def test_two_learners_with_different_hash_seeds_agree(tmp_path):
    run_in_two_processes(__file__, tmp_path)


if __name__ == "__main__":
    with process_group():
        for algorithm in SAC_FAMILY:
            check_order_of_modules(algorithm)
        check_shared_encoder("PPO", "encoder.encoder")
        check_shared_encoder("SAC", "pi_encoder")
        check_shared_encoder("TQC", "pi_encoder")
        check_absent_data(lambda batch: batch.get("absent"))
        check_absent_data(lambda batch: batch["absent"])
