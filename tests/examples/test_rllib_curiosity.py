"""The example on Ray RLlib, shortened."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("rllib_curiosity.py")


@pytest.mark.parametrize("num_learners", ["0", "2"])
def test_it_shows_its_progress_and_plots_it(num_learners, tmp_path):
    plot = tmp_path / "curves.svg"
    options = ["--steps", "2000", "--num-learners", num_learners, "--plot", plot]
    finished = subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True)

    assert finished.returncode == 0, finished.stderr
    assert re.search(r"seed 0 100%, success=\S+, inverse_loss=\d\S+ \|", finished.stderr)
    assert re.search(r"^seed 0 +\d+%$", finished.stdout, re.MULTILINE)
    assert plot.read_text().count("stroke-opacity: 0.4") == 1
