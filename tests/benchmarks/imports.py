"""Time and resident memory of an import, including the interpreter."""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.interleave import Row, interleave

IMPORTS = {
    "ours": "import self_supervised_loss",
    "typing_extensions": "import typing_extensions",
    "Python alone": "pass",
    "RLlib's API": "from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI",
}
MEMORY = "import psutil; print(psutil.Process().memory_info().rss)"  # each imports psutil


def measure() -> Iterator[Row]:
    seconds = interleave(
        {name: lambda code=code: run(code) for name, code in IMPORTS.items()},
        rounds=12,
        timer=time.perf_counter,  # CPU time would not count the interpreter, another process
    )
    memory = {name: int(run(f"{code}\n{MEMORY}")) for name, code in IMPORTS.items()}
    goals = {"typing_extensions": "1.1", "Python alone": "", "RLlib's API": ""}
    for other, goal in goals.items():
        measured = "importing, with the interpreter"
        yield Row(measured, seconds["ours"], other, seconds[other], "ms", goal)
    for other in "Python alone", "RLlib's API":
        yield Row("memory after importing", memory["ours"], other, memory[other], "MB")


def run(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True)
