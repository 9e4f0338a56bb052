"""Type checkers in their strictest modes refuse the lines of `usage.py` that are marked as refused,
and no others. They accept the Python blocks of the README files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import EXAMPLES, PROJECT, README, blocks

HERE = Path(__file__).parent
USAGE = HERE / "usage.py"
REFUSED = {
    ("usage.py", number)
    for number, line in enumerate(USAGE.read_text().splitlines(), start=1)
    if line.endswith("# refused")
}
# Not the programs for RLlib, which leaves most of its API untyped.
READMES = {"top.py": README, "examples.py": EXAMPLES}
PYRIGHT_FOR_READMES = {
    "typeCheckingMode": "strict",
    "extraPaths": [str(PROJECT / "tests"), str(PROJECT / "src")],
    # A loop of the README binds names, and does run.
    "reportPossiblyUnboundVariable": False,
    # torch and JAX leave parameters and results without types.
    "reportUnknownArgumentType": False,
    "reportUnknownLambdaType": False,
    "reportUnknownMemberType": False,
    "reportUnknownVariableType": False,
}


@pytest.fixture
def readmes(tmp_path):
    """A folder with the blocks of each README as one program."""
    for name, readme in READMES.items():
        code = [block.content for block in blocks(readme, "python")]
        (tmp_path / name).write_text("\n".join(part for part in code if "from ray." not in part))
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(PYRIGHT_FOR_READMES))
    return tmp_path


def run(tool, *arguments):
    command = [sys.executable, "-m", tool, *map(str, arguments)]
    process = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    print(process.stdout)  # for pytest to show when the test fails
    assert process.returncode in (0, 1)  # whether or not it found errors, it ran
    return process.stdout


def test_mypy(readmes, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(PROJECT / "tests"))
    output = run("mypy", f"--config-file={HERE / 'mypy.ini'}", "--output=json", USAGE, readmes)
    reports = [json.loads(line) for line in output.splitlines()]
    errors = [report for report in reports if report["severity"] == "error"]
    assert {(Path(error["file"]).name, error["line"]) for error in errors} == REFUSED


def test_pyright(readmes):
    for project, refused in ((HERE, REFUSED), (readmes, set())):
        options = f"--project={project}", f"--pythonpath={sys.executable}", "--outputjson"
        errors = json.loads(run("pyright", *options))["generalDiagnostics"]
        lines = {(Path(e["file"]).name, e["range"]["start"]["line"] + 1) for e in errors}
        assert lines == refused


def test_ty():
    options = "--error=all", f"--python={sys.executable}", "--output-format=gitlab"
    places = [error["location"] for error in json.loads(run("ty", "check", *options, USAGE))]
    lines = {(Path(place["path"]).name, place["positions"]["begin"]["line"]) for place in places}
    assert lines == REFUSED


def test_pyrefly():
    interpreter = f"--python-interpreter-path={sys.executable}"
    options = "--preset=strict", interpreter, "--output-format=json"
    errors = json.loads(run("pyrefly", "check", *options, USAGE))["errors"]
    assert {(Path(error["path"]).name, error["line"]) for error in errors} == REFUSED


def test_the_package_is_typed_completely(monkeypatch):
    # Here pyright ignores --pythonpath, and looks where the first Python on the PATH does.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    options = "--verifytypes=self_supervised_loss", "--ignoreexternal", "--outputjson"
    report = json.loads(run("pyright", *options))["typeCompleteness"]
    assert report["packageRootDirectory"] == str(PROJECT / "src/self_supervised_loss")
    assert report["completenessScore"] == 1
