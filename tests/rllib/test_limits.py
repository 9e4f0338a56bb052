"""Where RLlib by itself cannot hold a module with its own loss, or does not ask it for the loss."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.algorithms.algorithm_config import DifferentiableAlgorithmConfig
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core.learner.differentiable_learner_config import DifferentiableLearnerConfig
from ray.rllib.core.learner.torch.torch_differentiable_learner import TorchDifferentiableLearner
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec

BOX = gym.spaces.Box(-1, 1, (4,), np.float32)
RND = RLModuleSpec(
    module_class=RNDRLModule, observation_space=BOX, action_space=BOX, learner_only=True
)


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        (SACConfig(), "qf_encoder"),
        (TQCConfig(), "qf_encoders"),
        (IQLConfig(), "qf_encoder"),
        (CQLConfig(), "qf_encoder"),
    ],
    ids=["SAC", "TQC", "IQL", "CQL"],
)
def test_without_the_mix_in_the_sac_family_takes_each_module_for_a_policy(config, missing):
    assert_that_building_misses(missing, config)


@pytest.mark.filterwarnings(
    "ignore:.*WARN:UserWarning"
)  # it makes environments when it is imported
def test_dreamerv3_takes_each_module_for_one_with_a_world_model():
    from ray.rllib.algorithms.dreamerv3 import DreamerV3Config

    assert_that_building_misses("world_model", DreamerV3Config())


def assert_that_building_misses(attribute, config):
    spec = MultiRLModuleSpec(rl_module_specs={"rnd": RND})
    learner = config.get_default_learner_class()(config=config, module_spec=spec)
    with pytest.raises(
        AttributeError, match=f"'RNDRLModule' object has no attribute '{attribute}'"
    ):
        learner.build()


def test_a_differentiable_learner_as_in_mamls_inner_loop_asks_no_module_for_its_loss():
    class DifferentiableLearner(TorchDifferentiableLearner):
        def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
            return "the learner's"

    module = MultiRLModuleSpec(rl_module_specs={"rnd": RND}).build()
    learner = DifferentiableLearner(
        config=DifferentiableAlgorithmConfig(),
        learner_config=DifferentiableLearnerConfig(learner_class=DifferentiableLearner),
        module=module,
    )
    batch = {"rnd": {"new_obs": torch.randn(8, 4)}}

    losses = learner.compute_losses(fwd_out=module.forward_train(batch), batch=batch)

    assert losses == {"rnd": "the learner's"}
