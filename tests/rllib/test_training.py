"""Real training on Ray, with our module beside the policy."""

import subprocess
import sys
from pathlib import Path

import pytest
from modules.icm_rl_module import ICMRLModule
from rllib.training import WARNINGS_OF_RAY, check_training

pytestmark = WARNINGS_OF_RAY
on_one_and_on_two_learners = pytest.mark.parametrize("num_learners", [0, 2], ids=["local", "two-remote"])


@on_one_and_on_two_learners
@pytest.mark.usefixtures("cluster")
def test_ppo_trains_a_module_of_an_importable_file(num_learners, tmp_path):
    check_training(ICMRLModule, num_learners, tmp_path)


@on_one_and_on_two_learners
def test_ppo_trains_a_module_of_the_main_program(num_learners, tmp_path):
    program = Path(__file__).with_name("train_in_main.py")
    subprocess.run([sys.executable, program, str(num_learners), tmp_path], check=True)
