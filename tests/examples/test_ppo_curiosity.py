import re
from collections import deque

import pytest
import torch
from examples.ppo_curiosity import Config, Policy, collect_rollout, estimate_advantages, main, make_envs, train

SHORT = Config(total_steps=4096)


def test_the_program_solves_the_task_with_curiosity_only_and_plots_it(tmp_path, capsys):
    plot = tmp_path / "curves.png"

    main(["--seeds", "0", "--steps", "40000", "--plot", str(plot)])

    output = capsys.readouterr()
    assert re.search(r"^seed 0 +(9[1-9]|100)% +0%$", output.out, re.MULTILINE)
    assert re.search(r"^above 90% +1 of 1 +0 of 1$", output.out, re.MULTILINE)
    assert "seed 0 with curiosity: 100%" in output.err
    assert "success=0%" in output.err
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_curiosity_module_is_trained_on_its_own_loss_and_the_policy_on_that_of_ppo():
    first, *_, last = train(SHORT, seed=0, curiosity=True)

    assert first["icm"].keys() == {"forward_loss", "inverse_loss"}
    assert first["policy"].keys() == {"policy_loss", "vf_loss", "entropy"}
    assert last["icm"]["inverse_loss"] < 0.5 * first["icm"]["inverse_loss"]
    assert last["policy"]["entropy"] < first["policy"]["entropy"]


def test_without_curiosity_there_is_nothing_to_learn_from():
    for metrics in train(SHORT, seed=0, curiosity=False):
        assert metrics.keys() == {"policy", "success_rate"}
        assert metrics["policy"]["vf_loss"] == 0


def test_the_same_seed_gives_the_same_numbers_whatever_ran_before():
    history = train(SHORT, seed=0, curiosity=True)

    assert train(SHORT, seed=1, curiosity=True) != history
    assert train(SHORT, seed=0, curiosity=True) == history


def test_a_rollout_holds_where_episodes_ended_and_goes_on_at_the_start():
    envs = make_envs(SHORT)
    start, _ = envs.reset(seed=0)
    ended: deque[bool] = deque()

    _, rollout = collect_rollout(envs, start, Policy(64, 4), 64, ended)

    obs, new_obs = rollout["obs"].argmax(dim=-1), rollout["new_obs"].argmax(dim=-1)
    dones, terminateds = rollout["dones"], rollout["terminateds"]
    tiles = envs.get_attr("desc")[0].ravel()
    assert {tiles[state] for state in new_obs[terminateds].tolist()} == {b"H"}
    assert (dones & ~terminateds).any()
    assert (obs[1:][dones[:-1]] == 0).all()
    assert (obs[1:] == new_obs[:-1])[~dones[:-1]].all()
    assert len(ended) == dones.sum()


def test_only_an_episode_that_was_cut_off_is_worth_what_follows():
    rollout = {
        "vf_preds": torch.zeros(2, 3),
        "terminateds": torch.tensor([[False, True, False], [False, False, False]]),
        "dones": torch.tensor([[False, True, True], [False, False, False]]),
    }
    config = Config(gamma=0.5, gae_lambda=0.5)

    advantages = estimate_advantages(rollout, torch.zeros(2, 3), torch.ones(2, 3), config)

    torch.testing.assert_close(advantages, torch.tensor([[0.625, 0.0, 0.5], [0.5, 0.5, 0.5]]))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--plot", "curves"], "the name of a plot ends in one of ."),
        (["--plot", "missing/curves.png"], "cannot write missing/curves.png: No such file or directory"),
    ],
)
def test_a_plot_that_cannot_be_saved_is_named_before_anything_is_trained(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(argv)

    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
