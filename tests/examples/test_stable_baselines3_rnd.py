"""The rewards that PPO learns from in the program for Stable-Baselines3."""

import copy

import numpy as np
import pytest
import torch
from examples.stable_baselines3_rnd import RNDCallback, make_model
from modules.rnd import RND


class Examined(RNDCallback):
    """Records a rollout before and after the intrinsic rewards are added."""

    def _on_rollout_end(self):
        self.before = copy.deepcopy(self.model.rollout_buffer)
        self.errors = self.learner.module["rnd"](
            {"new_obs": torch.as_tensor(np.stack(self.new_obs)).float()}
        )
        super()._on_rollout_end()
        self.after = copy.deepcopy(self.model.rollout_buffer)


@pytest.fixture(scope="module")
def rollout():
    model = make_model(seed=0)
    callback = Examined(RND(64), weight=0.5)
    model.learn(1, callback)
    return callback


def test_each_reward_is_for_the_observation_that_the_action_led_to(rollout):
    obs = rollout.before.observations.argmax(axis=-1)
    new_obs = np.stack(rollout.new_obs).argmax(axis=-1)
    ended = rollout.before.episode_starts[1:].astype(bool)

    assert ended.any()
    assert (obs[1:] == new_obs[:-1])[~ended].all()
    for of_tile in (np.floor_divide, np.mod):  # its row, its column
        assert (abs(of_tile(new_obs, 8) - of_tile(obs, 8)) <= 1).all()


def test_intrinsic_rewards_are_scaled_prediction_errors(rollout):
    added = rollout.after.rewards - rollout.before.rewards
    scale = added / rollout.errors["intrinsic_rewards"].numpy(force=True)

    np.testing.assert_allclose(scale, scale[0, 0], rtol=1e-4)
    intrinsic_returns = [added[0]]
    for rewards in added[1:]:
        intrinsic_returns.append(rewards + rollout.model.gamma * intrinsic_returns[-1])
    assert np.std(intrinsic_returns) == pytest.approx(rollout.weight, rel=1e-3)
