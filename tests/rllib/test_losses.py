"""One module, whose loss method RLlib and our learner call: the same bits."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from modules.icm import ICM
from modules.icm_rl_module import ICMRLModule
from ray.rllib.algorithms.algorithm_config import DifferentiableAlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.examples.algorithms.classes.maml_lr_meta_learner import MAMLTorchMetaLearner
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
    IntrinsicCuriosityModel,
)
from ray.rllib.offline.offline_evaluation_runner import OfflineEvaluationRunner
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger as RLlibMetricsLogger

from self_supervised_loss import Learner

MODULE_IDS = ("icm", "icm_with_overrides")
LOGGED = ("forward_loss", "inverse_loss")
SHAPES = [(1, 1, 2), (7, 4, 3), (64, 16, 5)]  # of batch, observation and action space
MODEL_CONFIGS_OF_RLLIB = [
    {},
    {
        "feature_dim": 8,
        "feature_net_hiddens": (),
        "inverse_net_hiddens": (),
        "forward_net_hiddens": (),
    },
    {
        "feature_net_hiddens": (32, 16),
        "feature_net_activation": "relu",
        "inverse_net_activation": "tanh",
    },
]


def ppo_config():
    return PPOConfig().learners(learner_config_dict={"forward_loss_weight": 0.2})


def meta_config():
    return DifferentiableAlgorithmConfig().learners(
        learner_config_dict={"forward_loss_weight": 0.2}
    )


def override(config):
    overrides = type(config).overrides(learner_config_dict={"forward_loss_weight": 0.9})
    return config.rl_module(algorithm_config_overrides_per_module={"icm_with_overrides": overrides})


def multi_spec(module_class, shape, model_config):
    _, obs_size, num_actions = shape
    spec = RLModuleSpec(
        module_class=module_class,
        observation_space=gym.spaces.Box(-1, 1, (obs_size,), np.float32),
        action_space=gym.spaces.Discrete(num_actions),
        model_config=model_config,
    )
    return MultiRLModuleSpec(rl_module_specs=dict.fromkeys(MODULE_IDS, spec))


def built(learner):
    learner.build()
    return learner


def random_batch(shape):
    batch_size, obs_size, num_actions = shape
    return {
        module_id: {
            "obs": torch.randn(batch_size, obs_size),
            "new_obs": torch.randn(batch_size, obs_size),
            "actions": torch.randint(num_actions, (batch_size,)),
        }
        for module_id in MODULE_IDS
    }


def outcome(compute_losses, caller, batch, **kwargs):
    """Returns all that a caller gets: the losses, their gradients, and what was logged."""
    losses = compute_losses(fwd_out=caller.module.forward_train(batch), batch=batch, **kwargs)
    params = [param for module_id in MODULE_IDS for param in caller.module[module_id].parameters()]
    logged = [caller.metrics.peek((module_id, name)) for module_id in MODULE_IDS for name in LOGGED]
    return [
        *losses.values(),
        *torch.autograd.grad(sum(losses.values()), params),
        *map(torch.as_tensor, logged),
    ]


def assert_same_as_ours(outcome_of_rllib, rllib, batch, **kwargs):
    learner = Learner(module=rllib.module, config=rllib.config)
    ours = outcome(learner.compute_losses, learner, batch, **kwargs)

    assert len(ours) == len(outcome_of_rllib) > 2 * len(MODULE_IDS)
    assert all(map(torch.equal, ours, outcome_of_rllib))


@pytest.mark.parametrize(
    ("shape", "model_config"), [*zip(SHAPES, MODEL_CONFIGS_OF_RLLIB, strict=True)], ids=str
)
def test_rllibs_own_module_in_our_learner(shape, model_config):
    torch.manual_seed(0)
    spec = multi_spec(IntrinsicCuriosityModel, shape, model_config)
    rllib = built(PPOTorchLearner(config=override(ppo_config()), module_spec=spec))
    batch = random_batch(shape)

    assert_same_as_ours(outcome(rllib.compute_losses, rllib, batch), rllib, batch)


def test_overrides_for_one_module_reach_its_loss():
    torch.manual_seed(0)
    spec = multi_spec(IntrinsicCuriosityModel, SHAPES[1], {})
    rllib = built(PPOTorchLearner(config=override(ppo_config()), module_spec=spec))
    learner = Learner(module=rllib.module, config=rllib.config)
    batch = random_batch(SHAPES[1])

    losses = learner.compute_losses(fwd_out=rllib.module.forward_train(batch), batch=batch)

    for module_id, weight in zip(MODULE_IDS, (0.2, 0.9), strict=True):
        forward_loss, inverse_loss = (learner.metrics.peek((module_id, name)) for name in LOGGED)
        assert torch.equal(losses[module_id], weight * forward_loss + (1.0 - weight) * inverse_loss)


def ppo_learner(spec):
    return built(PPOTorchLearner(config=override(ppo_config()), module_spec=spec))


def meta_learner(spec):
    return built(MAMLTorchMetaLearner(config=override(meta_config()), module_spec=spec))


def offline_runner(spec):
    runner = OfflineEvaluationRunner(config=override(ppo_config()), module_spec=spec)
    runner.compute_losses = runner.compute_eval_losses
    return runner


@pytest.mark.parametrize(
    ("shape", "model_config"),
    [(SHAPES[0], {}), (SHAPES[2], {"feature_size": 3, "hidden_size": 5, "beta": 0.9})],
    ids=str,
)
@pytest.mark.parametrize(
    ("make", "extras"),
    [
        (ppo_learner, {}),
        (meta_learner, {"others_loss_per_module": [{"icm": torch.tensor(1.0)}]}),
        (offline_runner, {}),
    ],
    ids=["PPO", "meta learner", "offline evaluation"],
)
def test_our_module_in_what_rllib_computes_losses_with(make, extras, shape, model_config):
    torch.manual_seed(0)
    rllib = make(multi_spec(ICMRLModule, shape, model_config))
    batch = random_batch(shape)

    expected = outcome(rllib.compute_losses, rllib, batch, **extras)
    assert_same_as_ours(expected, rllib, batch, **extras)


def test_the_loss_under_rllib_is_the_plain_modules_method():
    assert ICMRLModule.compute_self_supervised_loss is ICM.compute_self_supervised_loss


def test_our_module_logs_into_rllibs_metrics_logger():
    torch.manual_seed(0)
    modules = {"icm": ICM(4, 2)}
    learner = Learner(module=modules)
    learner_of_rllibs = Learner(module=modules, metrics=RLlibMetricsLogger())
    for _ in range(3):
        batch = random_batch((7, 4, 2))
        fwd_out = {"icm": modules["icm"](batch["icm"])}
        for each in (learner, learner_of_rllibs):
            each.compute_losses(fwd_out=fwd_out, batch=batch)

    for name in LOGGED:
        ours, rllibs = (each.metrics.peek(("icm", name)) for each in (learner, learner_of_rllibs))
        assert rllibs == pytest.approx(ours.item(), rel=1e-6)
