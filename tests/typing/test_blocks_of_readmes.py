"""Type checkers in their strict modes accept the Python blocks of the README files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
# Not that of RLlib, which leaves most of its own API untyped.
READMES = {"top.py": PROJECT / "README.md", "examples.py": PROJECT / "tests/examples/README.md"}
PYRIGHT = {
    "typeCheckingMode": "strict",
    "extraPaths": [str(PROJECT / "tests"), str(PROJECT / "src")],
    # A loop of the README binds names, and does run.
    "reportPossiblyUnboundVariable": False,
    # torch leaves parameters of torch.manual_seed and optimizer.step without a type.
    "reportUnknownMemberType": False,
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the blocks of each README as one program."""
    for name, readme in READMES.items():
        blocks = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.DOTALL | re.MULTILINE)
        assert blocks
        (tmp_path / name).write_text("\n".join(blocks))
    return tmp_path


def test_mypy_accepts_them(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(PROJECT / "tests"))
    run("mypy", f"--config-file={HERE / 'mypy.ini'}", str(programs))


def test_pyright_accepts_them(programs: Path) -> None:
    (programs / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    run("pyright", f"--project={programs}", f"--pythonpath={sys.executable}")


def run(tool: str, *arguments: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.returncode == 0, process.stdout
