"""The plain PPO loop: results, rollouts and advantages."""

import inspect
import re
import sys
from collections import deque
from types import ModuleType

import torch
from examples import ppo_curiosity
from examples.ppo_curiosity import (
    Config,
    Policy,
    collect_rollout,
    estimate_advantages,
    main,
    make_envs,
    train,
)


def test_the_program_solves_its_task_only_with_curiosity(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ppo_curiosity.py", "--seeds", "0", "--steps", "40000"])
    main()

    table = capsys.readouterr().out
    assert re.search(r"^seed 0 +(9[1-9]|100)% +0%$", table, re.MULTILINE)


def test_without_the_marked_lines_the_program_trains_ppo_alone():
    lines = inspect.getsource(ppo_curiosity).splitlines()
    plain_lines = [line for line in lines if not line.endswith("# curiosity")]
    plain = ModuleType("plain_ppo")
    plain.__file__ = ppo_curiosity.__file__
    exec("\n".join(plain_lines), plain.__dict__)

    assert plain.train(0, 4096) == train(0, 4096, curiosity=False)
    assert "ICM" not in vars(plain)


def test_a_rollout_records_where_episodes_end():
    envs = make_envs(Config())
    start, _ = envs.reset(seed=0)
    ended = deque()

    _, rollout = collect_rollout(envs, start, Policy(64, 4), Config(), ended)

    obs, new_obs = rollout["obs"].argmax(dim=-1), rollout["new_obs"].argmax(dim=-1)
    dones, terminateds = rollout["dones"], rollout["terminateds"]
    tiles = envs.get_attr("desc")[0].ravel()
    assert {tiles[state] for state in new_obs[terminateds].tolist()} == {b"H"}
    assert (dones & ~terminateds).any()
    assert (obs[1:][dones[:-1]] == 0).all()
    assert (obs[1:] == new_obs[:-1])[~dones[:-1]].all()
    assert len(ended) == dones.sum()


def test_only_truncated_episodes_are_bootstrapped():
    rollout = {
        "vf_preds": torch.zeros(2, 3),
        "terminateds": torch.tensor([[False, True, False], [False, False, False]]),
        "dones": torch.tensor([[False, True, True], [False, False, False]]),
    }
    config = Config(gamma=0.5, gae_lambda=0.5)

    advantages = estimate_advantages(rollout, torch.zeros(2, 3), torch.ones(2, 3), config)

    torch.testing.assert_close(advantages, torch.tensor([[0.625, 0.0, 0.5], [0.5, 0.5, 0.5]]))
