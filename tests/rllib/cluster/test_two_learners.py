"""Learners compute gradients in one order, whatever the order of a set in their processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("two_learners.py")


@pytest.mark.parametrize("hash_seeds", [("0", "1"), ("2", "3"), ("4", "5")])
def test_learners_with_different_hash_seeds_keep_the_same_weights(hash_seeds, tmp_path):
    learners = [
        subprocess.Popen(
            [sys.executable, PROGRAM, tmp_path / "rendezvous", str(rank)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        for rank, hash_seed in enumerate(hash_seeds)
    ]
    assert [learner.wait() for learner in learners] == [0, 0]
