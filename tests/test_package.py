"""What is shipped: a small wheel with one dependency, which imports no framework."""

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import self_supervised_loss

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


def test_the_wheel_is_small_and_holds_the_package_alone(wheel):
    assert wheel.stat().st_size < 50_000
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert files == {
        f"self_supervised_loss/{name}"
        for name in (
            "__init__.py",
            "_api.py",
            "_arrays.py",
            "_bridge.py",
            "_frameworks.py",
            "_gradients.py",
            "_learner.py",
            "_metrics.py",
            "_networks.py",
            "_running.py",
            "_settings.py",
            "_trial.py",
            "_values.py",
            "_wrappers.py",
            "py.typed",
            "rllib.py",
            "testing.py",
        )
    }


def test_the_metadata_name_the_version_and_the_one_dependency(wheel):
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(files.read(name))
    assert metadata["Version"] == self_supervised_loss.__version__
    required = [
        requirement
        for requirement in metadata.get_all("Requires-Dist")
        if "extra ==" not in requirement
    ]
    assert len(required) == 1
    assert required[0].startswith("typing-extensions")


def test_the_public_names_are_those_of_the_design():
    assert set(self_supervised_loss.__all__) == {
        "Learner",
        "MetricsLogger",
        "ModuleID",
        "SelfSupervisedLossAPI",
        "__version__",
    }
    assert all(hasattr(self_supervised_loss, name) for name in self_supervised_loss.__all__)


@pytest.mark.parametrize("module", ["self_supervised_loss", "self_supervised_loss.testing"])
def test_importing_it_imports_nothing_but_the_standard_library_and_typing_extensions(module):
    code = (
        f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    third_party = {
        name.partition(".")[0] for name in process.stdout.split()
    } - sys.stdlib_module_names
    assert third_party == {"self_supervised_loss", "typing_extensions"}
