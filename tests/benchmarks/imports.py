"""What an import takes, with the interpreter that does it: time, and resident memory."""

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.interleave import Row, interleave

IMPORTS = {
    "Python alone": "pass",
    "typing_extensions": "import typing_extensions",
    "ours": "import self_supervised_loss",
    "RLlib's API": "from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI",
}
MEMORY = (
    "\nimport psutil; print(psutil.Process().memory_info().rss)"  # psutil itself is in all of them
)


def measure() -> Iterator[Row]:
    """Starts an interpreter for each import."""

    def run(code: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout

    seconds = interleave(
        {name: lambda code=code: run(code) for name, code in IMPORTS.items()}, rounds=12
    )
    memory = {name: int(run(code + MEMORY)) / 1e6 for name, code in IMPORTS.items()}
    for name in IMPORTS:
        if name != "ours":
            times = f"{seconds['ours'] * 1e3:.0f} ms", name, f"{seconds[name] * 1e3:.0f} ms"
            yield Row("importing, with the interpreter", *times, seconds["ours"] / seconds[name])
            sizes = f"{memory['ours']:.1f} MB", name, f"{memory[name]:.1f} MB"
            yield Row("memory after importing", *sizes, memory["ours"] / memory[name])
