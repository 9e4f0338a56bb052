"""The program for Ray RLlib runs on one learner and on two."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("rllib_curiosity.py")


@pytest.mark.parametrize("num_learners", ["0", "2"])
def test_it_shows_progress_prints_a_table_and_saves_a_plot(num_learners, tmp_path):
    plot = tmp_path / "curves.svg"
    options = ["--steps", "2000", "--num-learners", num_learners, "--plot", plot]
    finished = subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True)

    assert finished.returncode == 0, finished.stderr
    assert re.search(r"seed 0 100%, success=\S+, inverse_loss=\d\S+ \|", finished.stderr)
    assert re.search(r"^seed 0 +\d+%$", finished.stdout, re.MULTILINE)
    assert "one seed" in plot.read_text()
