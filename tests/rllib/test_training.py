"""Real training on Ray, with our module beside the policy."""

import subprocess
import sys
from pathlib import Path

import pytest
from modules.icm_rl_module import ICMRLModule
from rllib.training import WARNINGS_OF_RAY, check_training, ray_cluster

pytestmark = WARNINGS_OF_RAY
on_one_and_on_two_learners = pytest.mark.parametrize("num_learners", [0, 2], ids=["local", "two-remote"])


@on_one_and_on_two_learners
def test_ppo_trains_and_restores_a_module_of_an_importable_file(num_learners, tmp_path):
    with ray_cluster():
        check_training(ICMRLModule, num_learners, tmp_path)
    run("restore_checkpoint.py", tmp_path)


@on_one_and_on_two_learners
def test_ppo_trains_and_restores_a_module_of_the_main_program(num_learners, tmp_path):
    run("train_in_main.py", num_learners, tmp_path)
    run("restore_checkpoint.py", tmp_path)


def run(program, *arguments):
    subprocess.run([sys.executable, Path(__file__).with_name(program), *map(str, arguments)], check=True)
