"""The rsl_rl example solves its task, and PPO is rewarded by the module and trains it."""

import copy
import inspect
import re
from pathlib import Path

import pytest
import torch
from examples import rsl_rl_rnd
from examples.rsl_rl_rnd import NUM_ENVS, RNDExtension, Room, main, make_runner, train
from torch import nn

from self_supervised_loss import Learner


@pytest.fixture
def runner():
    torch.manual_seed(0)
    return make_runner(with_rnd=True)


def vector(module):
    """Returns all parameters, one after the other."""
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def test_the_program_solves_the_task_with_rnd_only_and_plots_it(tmp_path, capsys):
    plot = tmp_path / "curves.svg"

    main(["--seeds", "3", "--steps", "40000", "--plot", str(plot)])

    output = capsys.readouterr()
    header, row, last = output.out.strip().splitlines()
    assert header.split("  ")[1:] == ["with RND", "without RND", "predictor loss"]
    assert re.fullmatch(r"seed 3 +(9[1-9]|100)% +0% +\d\S+", row)
    assert re.fullmatch(r"above 90% +1 of 1 +0 of 1", last)
    assert re.search(r"seed 3 with RND 100%, success \d+%, predictor loss \d\S+ \|", output.err)
    assert re.search(r"seed 3 without RND 100%, success 0% \|", output.err)
    assert plot.read_text().count("stroke-opacity: 0.4") == 2


def test_the_docstring_and_the_readme_tell_how_many_lines_the_integration_takes():
    lines = [line for line in inspect.getsource(RNDExtension).splitlines() if line.strip()]

    assert f"It has {len(lines)} lines, counted without blank ones." in rsl_rl_rnd.__doc__
    assert f"a class of {len(lines)} lines" in Path(__file__).with_name("README.md").read_text()


def test_the_module_is_trained_on_the_loss_that_it_brings(runner):
    rnd = runner.alg.rnd.module["rnd"]
    runner.alg.rnd.optimizer = torch.optim.SGD(
        rnd.parameters(), lr=0.1
    )  # unlike Adam's, its step is as large as the loss
    runner.alg.num_learning_epochs = runner.alg.num_mini_batches = 1
    by_hand = copy.deepcopy(rnd)

    runner.learn(1)

    batch = {"new_obs": runner.alg.storage.observations.flatten(0, 1)["cell"]}
    loss = by_hand.compute_self_supervised_loss(
        learner=Learner(module={}),
        module_id="rnd",
        config=None,
        batch=batch,
        fwd_out=by_hand(batch),
    )
    loss.backward()
    torch.optim.SGD(by_hand.parameters(), lr=0.1).step()
    torch.testing.assert_close(vector(rnd), vector(by_hand), rtol=1e-5, atol=1e-7)


def test_ppo_is_rewarded_for_what_the_module_cannot_predict_where_a_step_leads(runner):
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


def test_a_checkpoint_holds_the_module_and_its_optimizer(runner, tmp_path):
    runner.learn(1)
    runner.save(f"{tmp_path}/model.pt")
    restored = make_runner(with_rnd=True)

    restored.load(f"{tmp_path}/model.pt")

    assert torch.equal(vector(restored.alg.rnd), vector(runner.alg.rnd))
    states = [each.alg.rnd.optimizer.state_dict()["state"] for each in (restored, runner)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert states[0]


def test_without_rnd_there_is_nothing_to_learn_from():
    torch.manual_seed(0)
    runner = make_runner(with_rnd=False)
    policy = vector(runner.alg.actor.mlp)

    runner.learn(2)

    assert torch.equal(vector(runner.alg.actor.mlp), policy)


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


def test_the_same_seed_gives_the_same_numbers_whatever_ran_before():
    first = train(0, 2048, with_rnd=True)

    assert train(1, 2048, with_rnd=True)[1:] != first[1:]
    again = train(0, 2048, with_rnd=True)
    assert again[1:] == first[1:]
    assert torch.equal(vector(again.runner.alg.actor), vector(first.runner.alg.actor))
