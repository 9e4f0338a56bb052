"""A policy with its own loss, several policies with an auxiliary module, a recurrent policy."""

import gymnasium as gym
import torch
from modules.actor_critic_rl_module import ActorCriticRLModule
from modules.icm_rl_module import ICMRLModule
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole

from rllib.cluster.training import running, tiny_config, train
from self_supervised_loss.rllib import AuxiliaryModules, add_next_obs


def test_a_policy_with_its_own_loss_learns_under_ppo():
    config = (
        tiny_config("PPO", {})
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, num_epochs=1, lr=3e-3, gamma=0.98)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActorCriticRLModule))
    )
    with running(config.build_algo()) as algorithm:
        first, *_, last = [algorithm.train() for _ in range(6)]

    returns = [result["env_runners"]["episode_return_mean"] for result in (first, last)]
    assert returns[1] > 2 * returns[0]
    assert {"policy_loss", "vf_loss", "entropy"} < last["learners"][DEFAULT_MODULE_ID].keys()
    assert "mean_kl_loss" not in last["learners"][DEFAULT_MODULE_ID]  # PPO's loss would log it


class LearnsFromBoth(AuxiliaryModules, PPOTorchLearner):
    def data_for_module(self, module_id, batch):
        shares = [batch["p0"], batch["p1"]]
        return {name: torch.cat([share[name] for share in shares]) for name in shares[0]}


def test_a_module_added_later_learns_from_two_policies_on_two_learners():
    env = gym.make("CartPole-v1")
    icm = RLModuleSpec(
        module_class=ICMRLModule,
        learner_only=True,
        model_config={},
        observation_space=env.observation_space,
        action_space=env.action_space,
    )
    config = (
        tiny_config("PPO", {}, policies=("p0", "p1"))
        .environment(MultiAgentCartPole, env_config={"num_agents": 2})
        .learners(num_learners=2, learner_class=LearnsFromBoth, learner_connector=add_next_obs)
        .multi_agent(
            policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, *_, **__: f"p{agent_id}"
        )
    )
    with running(config.build_algo()) as algorithm:
        algorithm.train()
        algorithm.add_module("icm", icm)
        learnt = train(algorithm, "icm")["learners"]

    assert all("total_loss" in learnt[module_id] for module_id in ("p0", "p1", "icm"))


class SeesShapes(AuxiliaryModules, PPOTorchLearner):
    def data_for_module(self, module_id, batch):
        data = super().data_for_module(module_id, batch)
        assert data["obs"].shape[1:] == data["new_obs"].shape[1:] == (8, 4)  # T, obs_size
        assert not data["loss_mask"].all()
        return data


def test_a_recurrent_policy_gives_padded_sequences():
    recurrent = {"use_lstm": True, "lstm_cell_size": 16, "max_seq_len": 8}
    config = (
        tiny_config("PPO", {"icm": ICMRLModule}, **recurrent)
        .environment("CartPole-v1")
        .learners(learner_class=SeesShapes, learner_connector=add_next_obs)
        .training(train_batch_size_per_learner=512, minibatch_size=256)
    )
    with running(config.build_algo()) as algorithm:
        train(algorithm, "icm")
