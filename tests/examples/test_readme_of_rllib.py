"""The pages' programs for RLlib run when copied on their own, and the table of RLlib is right."""

import importlib
import os
import re
import subprocess
import sys

import pytest
from test_readme import PROJECT, README, blocks

PAGE = PROJECT / "tests/rllib/README.md"
ALL_BLOCKS = [block.content for page in (README, PAGE) for block in blocks(page, "python")]
PROGRAMS = [program for program in ALL_BLOCKS if "from ray." in program]
ALGORITHMS = re.findall(r"^\| (\w+)[^|]* \| `(ray\.[\w.]+)` \|", PAGE.read_text(), re.M)


@pytest.mark.parametrize("program", PROGRAMS, ids=["README", "RND", "shared encoder"])
def test_each_program_runs_on_its_own(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    finished = subprocess.run([sys.executable, path], capture_output=True, text=True, env=env)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1:] == re.findall(r"^print\(.*  # (.*)$", program, re.M)


@pytest.mark.parametrize(("algorithm", "learner_class"), ALGORITHMS)
def test_the_table_names_the_learner_class_of_each_algorithm(algorithm, learner_class):
    module = importlib.import_module(f"ray.rllib.algorithms.{algorithm.lower()}")
    default = getattr(module, f"{algorithm}Config")().get_default_learner_class()
    assert learner_class == f"{default.__module__}.{default.__name__}"


def test_the_table_lists_ten_algorithms():
    assert len(ALGORITHMS) == 10
