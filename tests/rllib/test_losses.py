"""A module has the same losses, gradients and logs under RLlib and our learner, bit by bit."""

import gymnasium as gym
import pytest
import torch
from modules.icm_rl_module import ICMRLModule
from ray.rllib.algorithms.algorithm_config import DifferentiableAlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.examples.algorithms.classes.maml_lr_meta_learner import MAMLTorchMetaLearner
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
    IntrinsicCuriosityModel,
)

from self_supervised_loss import Learner

MODULE_IDS = ("icm", "icm_with_overrides")
OTHER_LOSSES = {"others_loss_per_module": [{"icm": torch.tensor(1.0)}]}


def with_overrides(config):
    """Weighs the forward loss of RLlib's module, differently in one of two modules."""
    config.learners(learner_config_dict={"forward_loss_weight": 0.2})
    overrides = type(config).overrides(learner_config_dict={"forward_loss_weight": 0.9})
    return config.rl_module(algorithm_config_overrides_per_module={"icm_with_overrides": overrides})


def outcome(caller, fwd_out, batch, **kwargs):
    """Returns the losses, their gradients, and the logged values."""
    losses = caller.compute_losses(fwd_out=fwd_out, batch=batch, **kwargs)
    params = [param for module_id in MODULE_IDS for param in caller.module[module_id].parameters()]
    gradients = torch.autograd.grad(sum(losses.values()), params, retain_graph=True)
    logged = [
        torch.as_tensor(caller.metrics.peek((module_id, name)))
        for module_id in MODULE_IDS
        for name in ("forward_loss", "inverse_loss")
    ]
    return [*losses.values(), *gradients, *logged]


@pytest.mark.parametrize(
    ("learner_class", "config", "module_class", "kwargs"),
    [
        (PPOTorchLearner, PPOConfig(), IntrinsicCuriosityModel, {}),
        (PPOTorchLearner, PPOConfig(), ICMRLModule, {}),
        (MAMLTorchMetaLearner, DifferentiableAlgorithmConfig(), ICMRLModule, OTHER_LOSSES),
    ],
    ids=["PPO, RLlib's own module", "PPO", "meta learner"],
)
def test_losses_gradients_and_logs_are_the_same_bits(learner_class, config, module_class, kwargs):
    torch.manual_seed(0)
    spec = RLModuleSpec(
        module_class=module_class,
        observation_space=gym.spaces.Box(-1, 1, (4,)),
        action_space=gym.spaces.Discrete(3),
        model_config={},
    )
    specs = MultiRLModuleSpec(rl_module_specs=dict.fromkeys(MODULE_IDS, spec))
    rllib = learner_class(config=with_overrides(config), module_spec=specs)
    rllib.build()
    columns = {
        "obs": torch.randn(7, 4),
        "new_obs": torch.randn(7, 4),
        "actions": torch.randint(3, (7,)),
    }
    batch = dict.fromkeys(MODULE_IDS, columns)
    fwd_out = rllib.module.forward_train(batch)

    ours = outcome(Learner(module=rllib.module, config=rllib.config), fwd_out, batch, **kwargs)
    rllibs = outcome(rllib, fwd_out, batch, **kwargs)

    assert len(ours) == len(rllibs)
    assert all(map(torch.equal, ours, rllibs))
