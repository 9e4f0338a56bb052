"""Policies with all of their loss in the module, and policies with an auxiliary module."""

import pytest
import torch
from modules.actor_critic import ActorCritic
from modules.actor_critic_rl_module import ActorCriticRLModule
from modules.icm_rl_module import ICMRLModule
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import (
    ICM_MODULE_ID,
    DQNTorchLearnerWithCuriosity,
)

from rllib.cluster.training import WARNINGS_OF_RAY, all_learners, running
from self_supervised_loss import Learner
from self_supervised_loss.rllib import AuxiliaryModules, add_next_obs
from self_supervised_loss.testing import check_module

pytestmark = [*WARNINGS_OF_RAY, pytest.mark.usefixtures("cluster")]


def ppo_config(num_learners=0):
    num_shares = max(1, num_learners)  # of each batch
    return (
        PPOConfig()
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .learners(num_learners=num_learners)
        .training(
            train_batch_size_per_learner=1024 // num_shares,
            minibatch_size=64 // num_shares,
            num_epochs=1,
            lr=3e-3,
        )
        .debugging(seed=0)
    )


@pytest.mark.parametrize("num_learners", [0, 2])
def test_a_policy_with_all_of_its_loss_in_the_module_learns_under_ppo(num_learners):
    config = ppo_config(num_learners).environment("CartPole-v1").training(gamma=0.98)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=ActorCriticRLModule))
    with running(config.build_algo()) as algorithm:
        first, *_, last = [algorithm.train() for _ in range(6)]
        weights, *others = all_learners(
            algorithm, lambda learner: learner.module[DEFAULT_MODULE_ID].get_state()
        )

    assert (
        last["env_runners"]["episode_return_mean"] > 2 * first["env_runners"]["episode_return_mean"]
    )
    assert {"policy_loss", "vf_loss", "entropy"} < last["learners"][DEFAULT_MODULE_ID].keys()
    assert "mean_kl_loss" not in last["learners"][DEFAULT_MODULE_ID]  # PPO's own loss would log it
    assert len(others) == max(0, num_learners - 1)
    assert all((other[name] == weights[name]).all() for other in others for name in weights)


def test_the_same_policy_learns_in_our_learner():
    torch.manual_seed(0)
    policy = ActorCritic(4, 2)
    batch = {"obs": torch.randn(32, 4), "actions": torch.randint(2, (32,))}
    batch |= {"advantages": 2.0 * batch["actions"] - 1, "value_targets": batch["obs"].sum(dim=-1)}
    check_module(policy, batch=batch, fwd_out=policy(batch))
    learner, optimizer = (
        Learner(module={"policy": policy}),
        torch.optim.Adam(policy.parameters(), lr=1e-2),
    )

    for _ in range(200):
        loss = learner.compute_losses(fwd_out={"policy": policy(batch)}, batch={"policy": batch})[
            "policy"
        ]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    fwd_out = policy(batch)
    assert (fwd_out["action_dist_inputs"].argmax(dim=-1) == 1).all()
    assert (fwd_out["vf_preds"] - batch["value_targets"]).square().mean() < 0.1


class SharedCuriosity(AuxiliaryModules, PPOTorchLearner):
    """The module "icm" learns from all policies."""

    def data_for_module(self, module_id, batch):
        shares = [batch["p0"], batch["p1"]]
        return {name: torch.cat([share[name] for share in shares]) for name in shares[0]}

    def compute_gradients(self, loss_per_module, **kwargs):
        self.metrics.log_value(("icm", "num_losses"), len(loss_per_module), reduce="max")
        return super().compute_gradients(loss_per_module, **kwargs)


TWO_AGENTS = MultiAgentCartPole({"num_agents": 2})
ICM_OF_AGENTS = RLModuleSpec(
    module_class=ICMRLModule,
    observation_space=TWO_AGENTS.observation_spaces[0],
    action_space=TWO_AGENTS.action_spaces[0],
    learner_only=True,
    model_config={},
)


def two_agents_config(policies, num_learners=0):
    return (
        ppo_config(num_learners)
        .environment(MultiAgentCartPole, env_config={"num_agents": 2})
        .env_runners(num_envs_per_env_runner=1)
        .training(train_batch_size_per_learner=256, num_epochs=4)
        .multi_agent(
            policies={*policies},
            policy_mapping_fn=lambda agent_id, *_, **__: policies[agent_id % len(policies)],
        )
    )


def test_two_policies_share_one_curiosity_module():
    specs = {"icm": ICM_OF_AGENTS, "p0": RLModuleSpec(), "p1": RLModuleSpec()}
    config = (
        two_agents_config(["p0", "p1"])
        .learners(learner_class=SharedCuriosity, learner_connector=add_next_obs)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
    )
    with running(config.build_algo()) as algorithm:
        first, *_, last = [algorithm.train()["learners"] for _ in range(5)]

    assert specs.keys() < last.keys()
    assert last["icm"]["num_losses"] == 3
    assert last["icm"]["total_loss"] < 0.7 * first["icm"]["total_loss"]


class PPOLearner(AuxiliaryModules, PPOTorchLearner): ...


def test_a_module_that_is_added_to_a_running_algorithm_is_trained_on_two_learners():
    specs = {"p0": RLModuleSpec()}
    config = (
        two_agents_config(["p0"], num_learners=2)
        .learners(learner_class=PPOLearner, learner_connector=add_next_obs)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
    )
    with running(config.build_algo()) as algorithm:
        algorithm.train()
        algorithm.add_module("icm", ICM_OF_AGENTS)
        first, *_, last = [algorithm.train()["learners"]["icm"] for _ in range(5)]
        weights, other = all_learners(
            algorithm, lambda learner: [*learner.module["icm"].unwrapped().parameters()]
        )

    assert last["total_loss"] < 0.7 * first["total_loss"]
    assert all(map(torch.equal, weights, other))


class SeesShapes(AuxiliaryModules, PPOTorchLearner):
    def data_for_module(self, module_id, batch):
        data = super().data_for_module(module_id, batch)
        assert data["obs"].shape[1:] == data["new_obs"].shape[1:] == (8, 4)  # T, obs_size
        assert not data["loss_mask"].all()
        return data


@pytest.mark.parametrize("module_class", [ICMRLModule, RNDRLModule])
def test_a_recurrent_policy_gives_padded_sequences(module_class):
    recurrent = RLModuleSpec(
        model_config=DefaultModelConfig(use_lstm=True, lstm_cell_size=16, max_seq_len=8)
    )
    auxiliary = RLModuleSpec(module_class=module_class, learner_only=True)
    config = (
        ppo_config()
        .environment("CartPole-v1")
        .learners(learner_class=SeesShapes, learner_connector=add_next_obs)
        .rl_module(
            rl_module_spec=MultiRLModuleSpec(
                rl_module_specs={DEFAULT_MODULE_ID: recurrent, "auxiliary": auxiliary}
            )
        )
    )
    with running(config.build_algo()) as algorithm:
        first, *_, last = [algorithm.train()["learners"]["auxiliary"] for _ in range(5)]

    assert last["total_loss"] < 0.7 * first["total_loss"]


class DQNLearner(AuxiliaryModules, DQNTorchLearnerWithCuriosity):
    pass


@pytest.mark.parametrize("learner_class", [DQNTorchLearnerWithCuriosity, DQNLearner])
def test_rllibs_learner_for_curiosity_trains_the_module_with_and_without_the_mix_in(learner_class):
    icm = RLModuleSpec(module_class=ICMRLModule, learner_only=True)
    config = (
        DQNConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .learners(
            learner_class=learner_class,
            learner_config_dict={"intrinsic_reward_coeff": 0.01, "forward_loss_weight": 0.2},
        )
        .training(num_steps_sampled_before_learning_starts=32, lr=1e-3)
        .rl_module(
            rl_module_spec=MultiRLModuleSpec(
                rl_module_specs={DEFAULT_MODULE_ID: RLModuleSpec(), ICM_MODULE_ID: icm}
            )
        )
        .reporting(min_sample_timesteps_per_iteration=100)
        .debugging(seed=0)
    )
    with running(config.build_algo()) as algorithm:
        first, *_, last = [algorithm.train()["learners"][ICM_MODULE_ID] for _ in range(4)]

    assert last["total_loss"] < 0.8 * first["total_loss"]
