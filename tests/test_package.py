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


def test_the_wheel_holds_only_the_package(wheel):
    source = PROJECT / "src"
    files = [*source.rglob("*.py"), *source.rglob("py.typed")]
    in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert in_wheel == {str(path.relative_to(source)) for path in files}


def test_the_metadata_name_one_dependency_and_have_no_relative_links(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    metadata = message_from_bytes(wheel.read(name))
    assert metadata["Version"] == self_supervised_loss.__version__
    required = metadata.get_all("Requires-Dist")
    (dependency,) = (requirement for requirement in required if "extra ==" not in requirement)
    assert dependency.startswith("typing-extensions")

    description = metadata.get_payload()
    assert description.startswith("# self-supervised-loss\n")
    assert description.count("](") == description.count("](http") > 0


@pytest.mark.parametrize("module", ["self_supervised_loss", "self_supervised_loss.testing"])
def test_an_import_needs_only_the_standard_library_and_typing_extensions(module):
    code = f"import sys; b = set(sys.modules); import {module}; print(*set(sys.modules) - b)"
    imported = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names == {"self_supervised_loss", "typing_extensions"}
    assert ("self_supervised_loss.testing" in imported) == module.endswith(".testing")
