"""What all programs of this folder do alike: help, missing packages, methods that they override."""

import ast
import importlib
import json
import re
import runpy
import shutil
import subprocess
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
    "rsl_rl_rnd": ("rsl_rl", "rsl_rl.env"),
    "stable_baselines3_rnd": ("sb3", "stable_baselines3"),
    "tianshou_curiosity": ("tianshou", "tianshou.algorithm"),
    "torchrl_self_prediction": ("torchrl", "tensordict"),
}


@pytest.fixture(params=PROGRAMS)
def program(request, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    return request.param


def run(program, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", [program, *options])
    runpy.run_path(str(HERE / f"{program}.py"), run_name="__main__")


def docstring_of(program):
    return ast.get_docstring(ast.parse((HERE / f"{program}.py").read_text()))


def test_help_explains_the_program_and_its_options(program, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(program, monkeypatch, "--help")
    assert stopped.value.code == 0
    description, options = capsys.readouterr().out.split("\noptions:\n")
    assert docstring_of(program) in description
    assert {*re.findall(r"--\w+", options)} == {"--help", "--seeds", "--steps", "--plot"}


def test_a_missing_package_is_named_with_what_to_install(program, monkeypatch):
    extra, package = PROGRAMS[program]
    remedy = f"This example needs the extra {extra}: pip install -e '.[{extra}]'"
    assert remedy in docstring_of(program)
    monkeypatch.setitem(sys.modules, package, None)
    message = f"The package {package} is missing. {remedy}"
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        run(program, monkeypatch)


def test_a_program_shows_its_progress_and_a_row_per_seed_and_plots_curves(
    program, monkeypatch, capsys, tmp_path
):
    plot = tmp_path / "curves.svg"
    run(program, monkeypatch, "--seeds", "0", "3", "--steps", "40", "--plot", str(plot))

    output = capsys.readouterr()
    assert re.search(r"seed 3.* 100%, \w+.* \d\S* \|", output.err)
    assert re.findall(r"^(?:seed )?([03])  ", output.out, re.MULTILINE) == ["0", "3"]
    # A curve for each seed, with and without the module, or of the module alone.
    assert plot.read_text().count("stroke-opacity: 0.4") in (2, 4)


# What a short training with a seed comes to.
TRAININGS = {
    "jax_world_model": lambda module, seed: module.train(seed, 40)[1:],
    "ppo_curiosity": lambda module, seed: module.train(
        module.Config(total_steps=1024), seed=seed, curiosity=True
    ),
    "rsl_rl_rnd": lambda module, seed: module.train(seed, 1024, with_rnd=True)[1:],
    "stable_baselines3_rnd": lambda module, seed: weights(
        module.train(seed, 1024, with_rnd=True)[0].policy
    ),
    "tianshou_curiosity": lambda module, seed: weights(module.train(seed, 1024, curiosity=True)[0]),
    "torchrl_self_prediction": lambda module, seed: module.train(seed, 1)[1:],
}


def weights(module):
    return [parameter.tolist() for parameter in module.parameters()]


@pytest.mark.parametrize("name", TRAININGS)
def test_the_same_seed_gives_the_same_numbers_whatever_ran_before(name):
    program, training = importlib.import_module(f"examples.{name}"), TRAININGS[name]
    numbers = training(program, 0)

    assert training(program, 1) != numbers
    assert training(program, 0) == numbers


def test_pyright_accepts_how_the_programs_override_methods(tmp_path):
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True)
    settings = {
        "typeCheckingMode": "off",
        "reportIncompatibleMethodOverride": "error",
        "extraPaths": [str(HERE.parent), str(HERE.parents[1] / "src")],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    arguments = [f"--project={tmp_path}", f"--pythonpath={sys.executable}"]
    completed = subprocess.run(
        [sys.executable, "-m", "pyright", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert completed.returncode == 0, completed.stdout
