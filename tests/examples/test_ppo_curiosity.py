import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from examples.ppo_curiosity import Config, PPOLearner, Policy, estimate_advantages, main, train
from modules.icm import ICM

PROGRAM = Path(__file__).with_name("ppo_curiosity.py")
SHORT = Config(total_steps=4096)


def test_the_curiosity_module_is_trained_on_its_own_loss_and_the_policy_on_that_of_ppo():
    first, *_, last = train(SHORT, seed=0, curiosity=True)

    assert first["icm"].keys() == {"forward_loss", "inverse_loss"}
    assert first["policy"].keys() == {"policy_loss", "vf_loss", "entropy"}
    assert last["icm"]["inverse_loss"] < 0.5 * first["icm"]["inverse_loss"]


def test_without_curiosity_there_is_no_module_and_no_reward_to_learn_from():
    for metrics in train(SHORT, seed=0, curiosity=False):
        assert metrics.keys() == {"policy", "success_rate"}
        assert metrics["policy"]["vf_loss"] == 0
        assert metrics["success_rate"] == 0


def test_the_intrinsic_rewards_reach_the_policy():
    *_, last = train(SHORT, seed=0, curiosity=True)

    assert last["policy"]["vf_loss"] > 0


def test_the_same_seed_gives_the_same_numbers_whatever_ran_before():
    history = train(SHORT, seed=0, curiosity=True)
    other_history = train(SHORT, seed=1, curiosity=True)

    assert train(SHORT, seed=0, curiosity=True) == history
    assert other_history != history
