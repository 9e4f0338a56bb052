"""Real training on Ray: checkpoints of a module, also of one whose class is in the main program."""

import subprocess
import sys
from pathlib import Path

import pytest
from modules.icm_rl_module import ICMRLModule

from rllib.cluster.training import WARNINGS_OF_RAY, check_training

pytestmark = WARNINGS_OF_RAY


@pytest.mark.usefixtures("cluster")
def test_ppo_trains_and_restores_a_module_of_an_importable_file(tmp_path):
    check_training(ICMRLModule, num_learners=0, directory=tmp_path)
    run("restore_checkpoint.py", tmp_path)


def test_ppo_trains_and_restores_a_module_of_the_main_program_on_two_learners(tmp_path):
    run("train_in_main.py", tmp_path)
    run("restore_checkpoint.py", tmp_path)


def run(program, *arguments):
    subprocess.run(
        [sys.executable, Path(__file__).with_name(program), *map(str, arguments)], check=True
    )
