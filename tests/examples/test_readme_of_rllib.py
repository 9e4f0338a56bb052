"""The Python blocks of the README of RLlib run, one after the other, and print what is shown.

They start Ray by themselves.
"""

import pytest
from test_readme import RLLIB, run_blocks


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
# JAX warns when Ray starts a process.
@pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning")
def test_the_python_blocks_run_one_after_the_other(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    run_blocks(RLLIB, capsys)
