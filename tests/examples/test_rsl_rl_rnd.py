"""Rewards, checkpoints and the environment of the program for rsl_rl."""

import pytest
import torch
from examples.rsl_rl_rnd import NUM_ENVS, RNDExtension, Room, make_runner
from torch import nn


@pytest.fixture
def runner():
    torch.manual_seed(0)
    return make_runner(with_rnd=True)


def vector(module):
    """Returns all parameters as one vector."""
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def test_intrinsic_rewards_are_scaled_prediction_errors_for_the_next_state(runner):
    ppo, env = runner.alg, runner.env
    ppo.rnd = RNDExtension(ppo.rnd.module["rnd"], "cell", weight=0.5)
    env.cells[:] = 9
    env.cells[:, 0] = torch.arange(NUM_ENVS) % 9  # along the wall to the goal

    with torch.inference_mode():
        ppo.act(env.get_observations())
        obs, rewards, dones, extras = env.step(torch.tensor([1.0, 0.0]).expand(NUM_ENVS, 2))
        ppo.process_env_step(obs, rewards, dones, extras)
        errors = ppo.rnd.module["rnd"]({"new_obs": obs["cell"]})["intrinsic_rewards"]

    added = ppo.storage.rewards[0, :, 0] - rewards
    assert rewards.sum() == NUM_ENVS // 9
    torch.testing.assert_close(added / errors, (added[0] / errors[0]).expand(NUM_ENVS))
    # rsl_rl rounds a small variance.
    assert added.std(unbiased=False) == pytest.approx(0.5, rel=0.02)


def test_a_checkpoint_contains_the_module_and_its_optimizer(runner, tmp_path):
    runner.learn(1)
    runner.save(f"{tmp_path}/model.pt")
    restored = make_runner(with_rnd=True)

    restored.load(f"{tmp_path}/model.pt")

    assert torch.equal(vector(restored.alg.rnd), vector(runner.alg.rnd))
    states = [each.alg.rnd.optimizer.state_dict()["state"] for each in (restored, runner)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert states[0]


def test_an_episode_ends_at_the_goal_or_after_twenty_steps():
    right_and_down = torch.tensor([[0.1, 2.0], [-3.0, 1.0]])  # the second agent stays at the wall
    room = Room(2)
    for _ in range(9):
        _, rewards, dones, _ = room.step(right_and_down)
        assert not rewards.any() and not dones.any()
    right_and_down[0] = torch.tensor([1.0, -0.5])
    for step in range(10, 19):
        obs, rewards, dones, _ = room.step(right_and_down)
        assert dones.tolist() == [step == 18, False]

    assert rewards.tolist() == [1.0, 0.0]
    assert obs["cell"].argmax(dim=-1).tolist() == [0, 0]
    room.step(right_and_down)
    assert room.step(right_and_down)[2].tolist() == [False, True]
    assert [*room.successes] == [True, False]
