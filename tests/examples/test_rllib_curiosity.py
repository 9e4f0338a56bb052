"""The example on Ray RLlib, shortened."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("rllib_curiosity.py")


@pytest.mark.parametrize("num_learners", ["0", "2"])
def test_it_shows_its_progress_and_plots_it(num_learners, tmp_path):
    plot = tmp_path / "curves.svg"
    command = [
        sys.executable,
        PROGRAM,
        "--steps",
        "2000",
        "--num-learners",
        num_learners,
        "--plot",
        plot,
    ]
    finished = subprocess.run(command, capture_output=True, text=True)

    assert finished.returncode == 0, finished.stderr
    assert re.search(r"seed 0 100%, success \d+%, inverse loss \d\S+ \|", finished.stderr)
    assert re.search(r"^seed 0 +\d+% +\d\S+ +\d\S+$", finished.stdout, re.MULTILINE)
    assert plot.read_text().count("stroke-opacity: 0.4") == 1


@pytest.fixture
def run_here(monkeypatch):
    """Runs the program in this process, where RLlib has been imported already."""

    def run_here(*options):
        monkeypatch.setattr(sys, "argv", [str(PROGRAM), *options])
        monkeypatch.setattr(sys, "path", [*sys.path])
        runpy.run_path(str(PROGRAM), run_name="__main__")

    return run_here


def test_help_lists_the_options(run_here, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        run_here("--help")
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--steps", "--num-learners", "--curiosity", "--seed"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--steps", "0", "--steps is at least 1, not 0"),
        ("--steps", "many", "invalid int value: 'many'"),
        ("--num-learners", "-1", "--num-learners is from 0 to 256, not -1"),
        ("--num-learners", "257", "--num-learners is from 0 to 256, not 257"),
        ("--curiosity", "-1", "--curiosity is at least 0, not -1.0"),
    ],
)
def test_bad_options_are_answered_in_a_sentence(option, value, message, run_here, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        run_here(option, value)
    assert capsys.readouterr().err.endswith(f"{message}\n")


def test_it_says_what_to_install_where_ray_is_missing(run_here, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    remedy = "This example needs the extra rllib: pip install -e '.[rllib]'"
    with pytest.raises(ModuleNotFoundError, match=re.escape(f"is missing. {remedy}")):
        run_here()
