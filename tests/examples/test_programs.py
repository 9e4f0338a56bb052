"""What all programs of this folder do alike."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# TorchRL's collectors use a class of TorchRL's that is to go.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* inherits from WeightUpdaterBase is deprecated:DeprecationWarning"
)

# The extra of each, and a package that it needs.
PROGRAMS = {
    "jax_world_model": ("jax", "flax"),
    "ppo_curiosity": ("examples", "gymnasium"),
    "rllib_curiosity": ("rllib", "ray"),
    "rsl_rl_rnd": ("rsl-rl", "rsl_rl.env"),
    "stable_baselines3_rnd": ("sb3", "stable_baselines3"),
    "tianshou_curiosity": ("tianshou", "tianshou.algorithm"),
    "torchrl_self_prediction": ("torchrl", "tensordict"),
}


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(program, *options):
        monkeypatch.setattr(sys, "argv", [program, *options])
        runpy.run_path(str(HERE / f"{program}.py"), run_name="__main__")

    return run


def how_to_install(program):
    extra, _ = PROGRAMS[program]
    return f"This example needs the extra {extra}: pip install -e '.[{extra}]'"


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_says_what_to_install_and_names_the_options(program, run, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        run(program, "--help")
    description, options = capsys.readouterr().out.split("\noptions:\n")
    assert how_to_install(program) in description
    own = {"--num-learners", "--curiosity"} if program == "rllib_curiosity" else set()
    common = {"--help", "--seeds", "--steps", "--plot"}
    assert {*re.findall(r"--[\w-]+", options)} == common | own


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_package_is_named_with_what_to_install(program, run, monkeypatch):
    _, package = PROGRAMS[program]
    monkeypatch.setitem(sys.modules, package, None)
    message = f"The package {package} is missing. {how_to_install(program)}"
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        run(program)


# That of RLlib starts Ray: test_rllib_curiosity.py runs it.
RUN_HERE = [program for program in PROGRAMS if program != "rllib_curiosity"]


@pytest.mark.parametrize("program", RUN_HERE)
def test_a_program_shows_its_progress_and_a_row_per_seed_and_plots_curves(
    program, run, capsys, tmp_path
):
    plot = tmp_path / "curves.svg"
    run(program, "--seeds", "0", "3", "--steps", "40", "--plot", str(plot))

    output = capsys.readouterr()
    assert re.search(r"seed 3.* 100%, .*\w+=\d\S* \|", output.err)
    assert re.findall(r"^seed (\d)  ", output.out, re.MULTILINE) == ["0", "3"]
    # A curve for each seed, with and without the module, or of the module alone.
    assert plot.read_text().count("stroke-opacity: 0.4") in (2, 4)


@pytest.mark.parametrize("program", RUN_HERE)
def test_the_same_seed_gives_the_same_numbers_whatever_ran_before(program):
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
def test_a_program_solves_its_task_with_its_module_only(program, options, run, capsys):
    run(program, *options)

    table = capsys.readouterr().out
    assert re.search(r"^seed \d +(9[1-9]|100)% +0%$", table, re.MULTILINE)
