"""`check_module` on RLModules, RLlib's curiosity module among them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from modules.actor_critic_rl_module import ActorCriticRLModule
from modules.icm_rl_module import ICMRLModule
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
    IntrinsicCuriosityModel,
)
from unit.checking import hints_of, violations_of

from self_supervised_loss.testing import check_module

SPACES = {
    "observation_space": gym.spaces.Box(-1, 1, (4,), np.float32),
    "action_space": gym.spaces.Discrete(3),
}
CONFIG = PPOConfig().learners(learner_config_dict={"forward_loss_weight": 0.2})


def transitions():
    return {
        "obs": torch.randn(8, 4),
        "new_obs": torch.randn(8, 4),
        "actions": torch.randint(3, (8,)),
        "advantages": torch.randn(8),
        "value_targets": torch.randn(8),
        "loss_mask": torch.arange(8) < 6,
    }


class AcceptsMore(IntrinsicCuriosityModel):
    """RLlib's module, corrected."""

    def compute_self_supervised_loss(self, *, an_extra_argument, **kwargs):
        return super().compute_self_supervised_loss(**kwargs)


def inputs_of(module_class):
    """Makes a module, and the other arguments of `check_module`."""
    module, batch = module_class(**SPACES, model_config={}), transitions()
    return module, {"batch": batch, "fwd_out": module.forward_train(batch), "config": CONFIG}


def test_rllibs_module_lacks_kwargs_and_learns_from_masked_rows():
    module, inputs = inputs_of(IntrinsicCuriosityModel)
    (message,) = violations_of(module, **inputs)
    assert message.startswith("compute_self_supervised_loss does not accept **kwargs.")

    module, inputs = inputs_of(AcceptsMore)
    (message,) = hints_of(module, **inputs)
    fault = "masked rows of fwd_out['intrinsic_rewards'], fwd_out['phi'], fwd_out['next_phi']."
    assert fault in message


@pytest.mark.parametrize("module_class", [ICMRLModule, RNDRLModule, ActorCriticRLModule])
def test_an_rl_module_passes(module_class):
    module, inputs = inputs_of(module_class)
    check_module(module, **inputs).backward()
    assert all((param.grad is not None) == param.requires_grad for param in module.parameters())
