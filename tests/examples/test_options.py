"""What holds for the command line of every example but that on RLlib, which has options of its own."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

# TorchRL's collectors use a class of TorchRL's that is to go.
pytestmark = pytest.mark.filterwarnings("ignore:.* inherits from WeightUpdaterBase is deprecated:DeprecationWarning")

EXTRAS = {
    "jax_world_model": "jax",
    "ppo_curiosity": "examples",
    "stable_baselines3_rnd": "sb3",
    "tianshou_curiosity": "tianshou",
    "torchrl_self_prediction": "torchrl",
}
PACKAGES = {
    "jax_world_model": ("flax", "gymnasium", "jax", "numpy", "optax", "tqdm"),
    "ppo_curiosity": ("gymnasium", "matplotlib.figure", "numpy", "torch", "tqdm"),
    "stable_baselines3_rnd": ("gymnasium", "numpy", "stable_baselines3", "torch", "tqdm"),
    "tianshou_curiosity": ("gymnasium", "numpy", "tianshou.algorithm", "torch"),
    "torchrl_self_prediction": ("gymnasium", "tensordict", "torch", "torchrl", "tqdm"),
}


def path_of(program):
    return Path(__file__).with_name(f"{program}.py")


def docstring_of(program):
    return ast.get_docstring(ast.parse(path_of(program).read_text()))


@pytest.fixture
def run(monkeypatch):
    """Runs a program until it ends of itself, and returns with what."""

    def run(program, *options):
        monkeypatch.setattr(sys, "argv", [program, *options])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(path_of(program)), run_name="__main__")
        return stopped.value.code

    return run


@pytest.mark.parametrize("program", EXTRAS)
def test_help_explains_the_program_and_its_options(program, run, capsys):
    assert run(program, "--help") == 0
    description, options = capsys.readouterr().out.split("\noptions:\n")
    assert docstring_of(program) in description
    assert {"--seeds", "--steps"} <= {*re.findall(r"--\w+", options)}


@pytest.mark.parametrize("program", EXTRAS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "argument --steps: '0' is not a whole number from 1 to 1000000000"),
        (["--steps", "many"], "argument --steps: 'many' is not a whole number from 1 to 1000000000"),
        (["--seeds", "0.5"], "argument --seeds: '0.5' is not a whole number from 0 to 4294967295"),
        (["--seeds", "0", "-1"], "argument --seeds: '-1' is not a whole number from 0 to 4294967295"),
        (["--seeds", "4294967296"], "argument --seeds: '4294967296' is not a whole number from 0 to 4294967295"),
        (["--seeds"], "argument --seeds: expected at least one argument"),
        (["--sedes", "1"], "unrecognized arguments: --sedes 1"),
    ],
)
def test_a_mistyped_option_is_named_before_anything_is_trained(program, options, message, run, capsys):
    assert run(program, *options) == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


@pytest.mark.parametrize(
    ("program", "package"),
    [(program, package) for program in EXTRAS for package in (*PACKAGES[program], "self_supervised_loss")],
)
def test_a_missing_package_is_named_with_the_sentence_that_the_program_begins_with(program, package, run, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    extra = EXTRAS[program]
    remedy = f"This example needs the extra {extra}: pip install -e '.[{extra}]'"
    assert run(program) == f"The package {package} is missing. {remedy}"
    assert remedy in docstring_of(program)
