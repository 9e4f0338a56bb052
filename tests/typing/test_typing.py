"""Type checkers in their strictest modes refuse the lines of this folder that are marked `#
refused`, and no others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REFUSED = {
    (path.name, line)
    for path in HERE.glob("*.py")
    for line, text in enumerate(path.read_text().splitlines(), start=1)
    if text.endswith("# refused")
}


def test_mypy() -> None:
    output = run("mypy", f"--config-file={HERE / 'mypy.ini'}", "--output=json", str(HERE))
    reports = [json.loads(line) for line in output.splitlines()]
    errors = [report for report in reports if report["severity"] == "error"]
    assert {(Path(error["file"]).name, error["line"]) for error in errors} == REFUSED


def test_pyright() -> None:
    output = run("pyright", f"--project={HERE}", f"--pythonpath={sys.executable}", "--outputjson")
    errors = [
        (Path(report["file"]).name, report["range"]["start"]["line"] + 1)
        for report in json.loads(output)["generalDiagnostics"]
    ]
    assert {*errors} == REFUSED


def test_ty() -> None:
    options = "--error=all", f"--python={sys.executable}", "--output-format=gitlab"
    places = [report["location"] for report in json.loads(run("ty", "check", *options, str(HERE)))]
    errors = [(Path(place["path"]).name, place["positions"]["begin"]["line"]) for place in places]
    assert {*errors} == REFUSED


def test_pyrefly() -> None:
    interpreter = f"--python-interpreter-path={sys.executable}"
    options = "--preset=strict", interpreter, "--output-format=json"
    errors = json.loads(run("pyrefly", "check", *options, str(HERE)))["errors"]
    assert {(Path(error["path"]).name, error["line"]) for error in errors} == REFUSED


def test_the_package_is_typed_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    # Here pyright ignores --pythonpath, and looks where the first Python on the PATH does.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    output = run(
        "pyright", "--verifytypes=self_supervised_loss", "--ignoreexternal", "--outputjson"
    )
    report = json.loads(output)["typeCompleteness"]
    assert report["packageRootDirectory"] == str(ROOT / "src/self_supervised_loss")
    assert report["completenessScore"] == 1


def run(tool: str, *arguments: str) -> str:
    output = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout
    print(output)  # for pytest to show when the test fails
    return output
