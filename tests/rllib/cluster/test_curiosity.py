"""In an environment without rewards, a policy gets the rewards of its curiosity module."""

import gymnasium as gym
import pytest
import torch
from gymnasium.wrappers import TransformReward
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import (
    ICM_MODULE_ID,
    DQNTorchLearnerWithCuriosity,
    add_intrinsic_curiosity_connectors,
)
from ray.tune.registry import register_env

from rllib.cluster.training import running, tiny_config, train_until_logged
from rllib.learners import config_of
from self_supervised_loss.rllib import AuxiliaryModules

COEFFICIENT = 10.0


def without_rewards(config):
    return TransformReward(gym.make("CartPole-v1"), lambda reward: 0.0)


class WithCuriosity(AuxiliaryModules):
    def build(self):
        super().build()
        add_intrinsic_curiosity_connectors(self)


class SeesRewards:
    """Compares the rewards of the policy with the outputs of its curiosity module."""

    def compute_losses(self, *, fwd_out, batch):
        data = batch[DEFAULT_MODULE_ID]
        with torch.no_grad():
            outputs = self.module[ICM_MODULE_ID].unwrapped().forward_train(data)
        rewards = data["rewards"]
        counts = data.get("loss_mask", torch.ones_like(rewards)).bool()
        errors = (rewards - COEFFICIENT * outputs["intrinsic_rewards"])[counts].abs()
        means = {"reward": rewards[counts].mean(), "error": errors.mean()}
        self.metrics.log_dict(means, key=ICM_MODULE_ID, window=1)
        return super().compute_losses(fwd_out=fwd_out, batch=batch)


@pytest.mark.parametrize(
    ("name", "num_learners", "learner_classes"),
    [
        ("DQN", 0, [DQNTorchLearnerWithCuriosity]),
        ("SAC", 0, [WithCuriosity, config_of("SAC").get_default_learner_class()]),
        # In this process, IMPALA would wait forever for a thread that has failed.
        ("IMPALA", 1, [WithCuriosity, config_of("IMPALA").get_default_learner_class()]),
    ],
)
def test_the_policy_gets_the_intrinsic_rewards(name, num_learners, learner_classes):
    register_env("without_rewards", without_rewards)
    config = tiny_config(name, {ICM_MODULE_ID: RNDRLModule}).environment("without_rewards")
    config.learners(
        num_learners=num_learners,
        learner_class=type("Learner", (SeesRewards, *learner_classes), {}),
        learner_config_dict={
            "intrinsic_reward_coeff": COEFFICIENT,
            "forward_loss_weight": None,
        },
    )
    with running(config.build_algo()) as algorithm:
        results = train_until_logged(algorithm, ICM_MODULE_ID, "reward")
    learnt = results["learners"][ICM_MODULE_ID]
    assert "total_loss" in learnt
    assert learnt["reward"] > 0.1
    assert learnt["error"] < 0.1 * learnt["reward"]
