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


class WithKwargs(IntrinsicCuriosityModel):
    """RLlib's module with this corrected."""

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return super().compute_self_supervised_loss(
            learner=learner, module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )


def inputs_of(module_class):
    """Returns the arguments of `check_module`."""
    module = module_class(**SPACES, model_config={})
    batch = {
        "obs": torch.randn(8, 4),
        "new_obs": torch.randn(8, 4),
        "actions": torch.randint(3, (8,)),
        "advantages": torch.randn(8),
        "value_targets": torch.randn(8),
        "loss_mask": torch.arange(8) < 6,
    }
    return module, {"batch": batch, "fwd_out": module.forward_train(batch), "config": CONFIG}


def test_rllibs_module_lacks_kwargs_and_nothing_else():
    module, inputs = inputs_of(IntrinsicCuriosityModel)
    (message,) = violations_of(module, **inputs)
    assert message.startswith("compute_self_supervised_loss does not accept **kwargs.")


def test_rllibs_module_learns_from_masked_rows():
    module, inputs = inputs_of(WithKwargs)
    (message,) = hints_of(module, **inputs)
    fault = "masked rows of fwd_out['intrinsic_rewards'], fwd_out['phi'], fwd_out['next_phi']."
    assert fault in message


@pytest.mark.parametrize("module_class", [ICMRLModule, RNDRLModule, ActorCriticRLModule])
def test_an_rl_module_passes(module_class):
    module, inputs = inputs_of(module_class)
    check_module(module, **inputs).backward()
    assert all((param.grad is not None) == param.requires_grad for param in module.parameters())
