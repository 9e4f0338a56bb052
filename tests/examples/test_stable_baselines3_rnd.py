"""The example on Stable-Baselines3, shortened."""

import copy
import re

import numpy as np
import pytest
import torch
from examples import stable_baselines3_rnd
from examples.stable_baselines3_rnd import RNDCallback, main, make_model, train
from modules.rnd import RND


def test_the_program_solves_the_task_with_rnd_only(capsys):
    main(["--seeds", "0"])

    table = capsys.readouterr().out
    assert re.search(r"^seed 0 +(9[1-9]|100)% +0% ", table, re.MULTILINE)
    assert re.search(r"^above 90% +1 of 1 +0 of 1$", table, re.MULTILINE)


def test_what_the_module_logs_goes_to_the_logger_of_sb3():
    _, (first, *_, last) = train(0, 4096, with_rnd=True)

    logged = {key for key in first if key.startswith("rnd/")}
    assert logged == {"rnd/predictor_loss", "rnd/intrinsic_reward"}
    assert last["rnd/predictor_loss"] < 0.1 * first["rnd/predictor_loss"]


def test_the_module_is_trained_on_the_loss_that_it_brings(monkeypatch):
    class Unlearning(RND):
        def compute_self_supervised_loss(self, **arguments):
            return -super().compute_self_supervised_loss(**arguments)

    monkeypatch.setattr(stable_baselines3_rnd, "RND", Unlearning)
    _, (first, *_, last) = train(0, 4096, with_rnd=True)

    assert last["rnd/predictor_loss"] > 10 * first["rnd/predictor_loss"]


class Examined(RNDCallback):
    """Keeps the first rollout, before and after the intrinsic rewards are added."""

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
    torch.nn.init.ones_(model.policy.value_net.weight)
    callback = Examined(RND(64), weight=0.5)
    model.learn(1, callback)
    return callback


def test_each_reward_is_for_the_observation_that_the_action_led_to(rollout):
    obs, new_obs = (
        rollout.before.observations.argmax(axis=-1),
        np.stack(rollout.new_obs).argmax(axis=-1),
    )
    ended = rollout.before.episode_starts[1:].astype(bool)

    assert ended.any()
    assert (obs[1:] == new_obs[:-1])[~ended].all()
    for of_tile in (np.floor_divide, np.mod):  # its row, its column
        assert (abs(of_tile(new_obs, 8) - of_tile(obs, 8)) <= 1).all()


def test_the_rewards_are_the_errors_of_the_predictor_on_a_scale_of_their_own(rollout):
    added = rollout.after.rewards - rollout.before.rewards
    scale = added / rollout.errors["intrinsic_rewards"].numpy(force=True)

    np.testing.assert_allclose(scale, scale[0, 0], rtol=1e-4)
    intrinsic_returns = [added[0]]
    for rewards in added[1:]:
        intrinsic_returns.append(rewards + rollout.model.gamma * intrinsic_returns[-1])
    assert np.std(intrinsic_returns) == pytest.approx(rollout.weight, rel=1e-3)


def test_ppo_learns_from_the_sum_of_both_rewards(rollout):
    expected = copy.deepcopy(rollout.before)
    expected.rewards = rollout.after.rewards
    expected.compute_returns_and_advantage(rollout.locals["values"], rollout.locals["dones"])

    assert (rollout.after.rewards > rollout.before.rewards).all()
    assert rollout.locals["values"].all() and rollout.locals["dones"].any()
    np.testing.assert_array_equal(rollout.after.advantages, expected.advantages)
    np.testing.assert_array_equal(rollout.after.returns, expected.returns)
