"""The wheel is small, has one dependency and imports no framework."""

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
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_only_the_package(wheel):
    source = PROJECT / "src"
    package = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.suffix in (".py", ".typed")
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == package


def test_the_metadata_name_the_version_and_one_dependency(metadata):
    assert metadata["Version"] == self_supervised_loss.__version__
    required = metadata.get_all("Requires-Dist")
    (dependency,) = (requirement for requirement in required if "extra ==" not in requirement)
    assert dependency.startswith("typing-extensions")


def test_the_long_description_has_no_relative_links(metadata):
    description = metadata.get_payload()
    assert description.startswith("# self-supervised-loss\n")
    assert "](" in description
    assert description.count("](") == description.count("](http")


def modules_imported_with(module):
    code = f"import sys; b = set(sys.modules); import {module}; print(*set(sys.modules) - b)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


@pytest.mark.parametrize("module", ["self_supervised_loss", "self_supervised_loss.testing"])
def test_an_import_needs_only_the_standard_library_and_typing_extensions(module):
    packages = {name.partition(".")[0] for name in modules_imported_with(module)}
    assert packages - sys.stdlib_module_names == {"self_supervised_loss", "typing_extensions"}


def test_importing_the_package_leaves_the_test_kit_out():
    imported = modules_imported_with("self_supervised_loss")
    assert not [name for name in imported if "self_supervised_loss.testing" in name]
