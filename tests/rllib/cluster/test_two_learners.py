"""Two learners keep equal weights, and none waits for another that has no data."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("two_learners.py")


def test_two_learners_with_different_hash_seeds_agree(tmp_path):
    learners = [
        subprocess.Popen(
            [sys.executable, PROGRAM, tmp_path / "rendezvous", rank],
            env={**os.environ, "PYTHONHASHSEED": rank},
        )
        for rank in ("0", "1")
    ]
    assert [learner.wait() for learner in learners] == [0, 0]
