"""Type checkers in their strictest modes refuse the lines of this folder that are marked `#
refused`, and no others. They accept the Python blocks of the README files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = [str(HERE / name) for name in ("implementations.py", "learners.py")]
REFUSED = {
    (Path(file).name, line)
    for file in FILES
    for line, text in enumerate(Path(file).read_text().splitlines(), start=1)
    if text.endswith("# refused")
}
# Not the programs for RLlib, which leaves most of its API untyped.
READMES = {"top.py": ROOT / "README.md", "examples.py": ROOT / "tests/examples/README.md"}
PYRIGHT_FOR_READMES = {
    "typeCheckingMode": "strict",
    "extraPaths": [str(ROOT / "tests"), str(ROOT / "src")],
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
        tokens = MarkdownIt().parse(readme.read_text())
        blocks = [token.content for token in tokens if token.info == "python"]
        blocks = [block for block in blocks if "from ray." not in block]
        (tmp_path / name).write_text("\n".join(blocks))
    return tmp_path


def test_mypy(readmes, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(ROOT / "tests"))
    options = f"--config-file={HERE / 'mypy.ini'}", "--output=json"
    reports = [
        json.loads(line) for line in run("mypy", *options, *FILES, str(readmes)).splitlines()
    ]
    errors = [report for report in reports if report["severity"] == "error"]
    assert {(Path(error["file"]).name, error["line"]) for error in errors} == REFUSED


@pytest.mark.parametrize("folder", ["here", "readmes"])
def test_pyright(folder, readmes):
    (readmes / "pyrightconfig.json").write_text(json.dumps(PYRIGHT_FOR_READMES))
    project = HERE if folder == "here" else readmes
    output = run(
        "pyright", f"--project={project}", f"--pythonpath={sys.executable}", "--outputjson"
    )
    errors = [
        (Path(report["file"]).name, report["range"]["start"]["line"] + 1)
        for report in json.loads(output)["generalDiagnostics"]
    ]
    assert {*errors} == (REFUSED if folder == "here" else set())


def test_ty():
    options = "--error=all", f"--python={sys.executable}", "--output-format=gitlab"
    places = [report["location"] for report in json.loads(run("ty", "check", *options, *FILES))]
    errors = [(Path(place["path"]).name, place["positions"]["begin"]["line"]) for place in places]
    assert {*errors} == REFUSED


def test_pyrefly():
    interpreter = f"--python-interpreter-path={sys.executable}"
    options = "--preset=strict", interpreter, "--output-format=json"
    errors = json.loads(run("pyrefly", "check", *options, *FILES))["errors"]
    assert {(Path(error["path"]).name, error["line"]) for error in errors} == REFUSED


def test_the_package_is_typed_completely(monkeypatch):
    # Here pyright ignores --pythonpath, and looks where the first Python on the PATH does.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    output = run(
        "pyright", "--verifytypes=self_supervised_loss", "--ignoreexternal", "--outputjson"
    )
    report = json.loads(output)["typeCompleteness"]
    assert report["packageRootDirectory"] == str(ROOT / "src/self_supervised_loss")
    assert report["completenessScore"] == 1


def run(tool, *arguments):
    process = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    print(process.stdout)  # for pytest to show when the test fails
    assert process.returncode in (0, 1)  # whether or not it found errors, it ran
    return process.stdout
