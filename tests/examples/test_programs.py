"""Properties that all programs in this folder share."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# TorchRL's collectors use a class that TorchRL has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* inherits from WeightUpdaterBase is deprecated:DeprecationWarning"
)

EXTRAS = {
    "jax_world_model": "jax",
    "ppo_curiosity": "examples",
    "rllib_curiosity": "rllib",
    "rsl_rl_rnd": "rsl-rl",
    "stable_baselines3_rnd": "sb3",
    "tianshou_curiosity": "tianshou",
    "torchrl_self_prediction": "torchrl",
}


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(program, *options):
        monkeypatch.setattr(sys, "argv", [program, *options])
        runpy.run_path(str(HERE / f"{program}.py"), run_name="__main__")

    return run


@pytest.mark.parametrize(("program", "extra"), EXTRAS.items())
def test_the_help_and_the_error_say_what_to_install(program, extra):
    source = (HERE / f"{program}.py").read_text()
    assert source.count(f"This example needs the extra {extra}: pip install -e '.[{extra}]'") == 2
    assert "make_parser(__doc__, " in source


def test_a_missing_package_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    message = "The package gymnasium is missing. This example needs the extra examples: "
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        run("ppo_curiosity")


def test_the_pictures_are_small():
    sizes = {picture.name: picture.stat().st_size for picture in HERE.glob("*.svg")}
    assert {name: size for name, size in sizes.items() if size > 30_000} == {}


# The program for RLlib starts Ray and is run by test_rllib_curiosity.py.
RUN_HERE = [program for program in EXTRAS if program != "rllib_curiosity"]


@pytest.mark.parametrize("program", RUN_HERE)
def test_a_program_shows_progress_prints_a_table_and_saves_a_plot(program, run, capsys, tmp_path):
    plot = tmp_path / "curves.svg"
    run(program, "--seeds", "0", "3", "--steps", "40", "--plot", str(plot))

    output = capsys.readouterr()
    assert re.search(r"seed 3.* 100%, .*\w+=\d\S* \|", output.err)
    assert re.findall(r"^seed (\d)  ", output.out, re.MULTILINE) == ["0", "3"]
    assert "mean of 2 seeds" in plot.read_text()


@pytest.mark.parametrize("program", RUN_HERE)
def test_the_numbers_depend_only_on_the_seed(program):
    train = importlib.import_module(f"examples.{program}").train
    two_rollouts = 1025  # rounded up
    numbers = train(0, two_rollouts)

    assert train(1, two_rollouts) != numbers
    assert train(0, two_rollouts) == numbers


@pytest.mark.parametrize(
    ("program", "loss", "share"),
    [
        ("ppo_curiosity", "inverse_loss", 0.5),
        ("rsl_rl_rnd", "predictor_loss", 0.1),
        ("stable_baselines3_rnd", "predictor_loss", 0.1),
        ("tianshou_curiosity", "inverse_loss", 1.0),
    ],
)
def test_the_module_is_trained(program, loss, share):
    first, *_, last = importlib.import_module(f"examples.{program}").train(0, 4096)[loss]

    assert last < share * first


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("rsl_rl_rnd", ["--seeds", "3", "--steps", "40000"]),
        ("stable_baselines3_rnd", ["--seeds", "0"]),
        ("tianshou_curiosity", ["--seeds", "1", "--steps", "40960"]),
    ],
)
def test_a_program_solves_its_task_only_with_its_module(program, options, run, capsys):
    run(program, *options)

    table = capsys.readouterr().out
    assert re.search(r"^seed \d +(9[1-9]|100)% +0%$", table, re.MULTILINE)
