"""What `check_module` says of RLlib's own curiosity module."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from modules.icm_rl_module import ICMRLModule
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import IntrinsicCuriosityModel

from self_supervised_loss.testing import check_module

SPACES = {
    "observation_space": gym.spaces.Box(-1, 1, (4,), np.float32),
    "action_space": gym.spaces.Discrete(3),
}
CONFIG = PPOConfig().learners(learner_config_dict={"forward_loss_weight": 0.2})


def transitions():
    return {"obs": torch.randn(8, 4), "new_obs": torch.randn(8, 4), "actions": torch.randint(3, (8,))}


def test_rllibs_own_module_lacks_kwargs_and_nothing_else():
    module, batch = IntrinsicCuriosityModel(**SPACES, model_config={}), transitions()
    with pytest.raises(AssertionError) as raised:
        check_module(module, batch=batch, fwd_out=module.forward_train(batch), config=CONFIG)
    _, *violations = str(raised.value).splitlines()
    assert violations == [
        "- there is no **kwargs. Add it, since some learners pass more, as RLlib's TorchMetaLearner does."
    ]


def test_our_module_passes_as_an_rl_module_too():
    module, batch = ICMRLModule(**SPACES, model_config={}), transitions()
    check_module(module, batch=batch, fwd_out=module.forward_train(batch), config=CONFIG).backward()
