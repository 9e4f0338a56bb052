"""The training step of `training_step.py` in RLlib and in Tianshou, with their own classes."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from examples.ppo_curiosity import Config, Policy, PPOLearner
from modules.icm_rl_module import ICMRLModule
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module import MultiRLModule, MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from tianshou.algorithm import PPO
from tianshou.algorithm.modelbased.icm import ICMOnPolicyWrapper
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, SequenceSummaryStats
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic, IntrinsicCuriosityModule
from torch import nn

CONFIG = Config()
OBS_SIZE, NUM_ACTIONS, BATCH_SIZE = 64, 4, 256
OBS_SPACE, ACTION_SPACE = gym.spaces.Box(-1, 1, (OBS_SIZE,)), gym.spaces.Discrete(NUM_ACTIONS)


class PolicyRLModule(TorchRLModule, Policy):
    """The policy of `ppo_curiosity.py` as an RLlib module."""

    def setup(self):
        Policy.__init__(self, OBS_SIZE, NUM_ACTIONS)

    def _forward_train(self, batch, **kwargs):
        return Policy.forward(self, batch)


def make_modules() -> MultiRLModule:
    """Makes a policy and an ICM as RLlib modules, which any loop can train."""
    spaces = {"observation_space": OBS_SPACE, "action_space": ACTION_SPACE}
    specs = {
        "policy": RLModuleSpec(module_class=PolicyRLModule, **spaces),
        "icm": RLModuleSpec(module_class=ICMRLModule, **spaces),
    }
    return MultiRLModuleSpec(rl_module_specs=specs).build()


def parameters_of_rllib(modules: MultiRLModule) -> list[nn.Parameter]:
    """Returns the parameters in the order of `parameters_of_tianshou`."""
    policy, icm = modules["policy"], modules["icm"]
    networks = policy.actor, policy.critic, icm.feature_net, icm.inverse_net, icm.forward_net
    return [*nn.ModuleList(networks).parameters()]


def parameters_of_tianshou(algorithm: ICMOnPolicyWrapper) -> list[nn.Parameter]:
    """Returns the parameters in the order of `parameters_of_rllib`."""
    ppo, icm = algorithm.wrapped_algorithm, algorithm.model
    networks = ppo.policy.actor, ppo.critic, icm.feature_net, icm.inverse_model, icm.forward_model
    return [*nn.ModuleList(networks).parameters()]


class RLlibLearner(TorchLearner):
    """RLlib's learner with PPO's loss from `ppo_curiosity.py`, since RLlib's own does more."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return PPOLearner.compute_loss_for_module(
            self, module_id=module_id, config=CONFIG, batch=batch, fwd_out=fwd_out
        )


def step_of_rllib(
    modules: MultiRLModule, draw_minibatch: Callable[[], dict[str, torch.Tensor]], metrics: Any
) -> Callable[[], Any]:
    """Returns the part of RLlib's `Learner.update` for a minibatch, without its statistics."""
    learner = RLlibLearner(config=PPOConfig().training(lr=0.0), module=modules)
    learner.build()
    learner.metrics = metrics
    return lambda: learner._update(dict.fromkeys(modules.keys(), draw_minibatch()))


def make_tianshou() -> ICMOnPolicyWrapper:
    """Makes Tianshou's PPO inside Tianshou's ICM, with networks of the same sizes."""
    actor_net, critic_net = (
        Net(state_shape=OBS_SIZE, hidden_sizes=[64], activation=nn.Tanh)
        for _ in ("actor", "critic")
    )
    actor = DiscreteActor(preprocess_net=actor_net, action_shape=NUM_ACTIONS, softmax_output=False)
    ppo = PPO(
        policy=DiscreteActorPolicy(actor=actor, action_space=ACTION_SPACE),
        critic=DiscreteCritic(preprocess_net=critic_net),
        optim=AdamOptimizerFactory(lr=0.0),
        eps_clip=CONFIG.clip,
        vf_coef=0.5 * CONFIG.vf_weight,
        ent_coef=CONFIG.entropy_weight,
    )
    icm = IntrinsicCuriosityModule(
        feature_net=nn.Sequential(nn.Linear(OBS_SIZE, 64), nn.ReLU(), nn.Linear(64, 32)),
        feature_dim=32,
        action_dim=NUM_ACTIONS,
        hidden_sizes=[64],
    )
    return ICMOnPolicyWrapper(
        wrapped_algorithm=ppo,
        model=icm,
        optim=AdamOptimizerFactory(lr=0.0),
        lr_scale=1.0,
        reward_scale=0.0,
        forward_loss_weight=0.2,
    )


def step_of_tianshou(
    algorithm: ICMOnPolicyWrapper, batch: dict[str, torch.Tensor]
) -> Callable[[], None]:
    """Returns the part of Tianshou's update for a minibatch, which it draws itself.

    Its work once per rollout, advantages and old log probabilities, is left out, and so are its
    statistics.
    """
    SequenceSummaryStats.from_sequence = lambda sequence: None
    columns = Batch(
        obs=batch["obs"].numpy(),
        obs_next=batch["new_obs"].numpy(),
        act=batch["actions"].float(),  # as its PPO makes them
        rew=batch["advantages"].numpy(),
        logp_old=batch["action_logp"],
        adv=batch["advantages"],
        returns=batch["value_targets"],
        info=Batch(),
    )

    def step() -> None:
        algorithm._icm_preprocess_batch(columns)  # runs the ICM
        algorithm._update_with_batch(columns, batch_size=BATCH_SIZE, repeat=1)
        algorithm._icm_postprocess_batch(columns)

    return step
