"""CPU time and resident memory of an import, including the start of the interpreter."""

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.interleave import Row, interleave

OURS = "import self_supervised_loss"
TYPING_EXTENSIONS = "import typing_extensions"
PYTHON_ALONE = "pass"
RLLIBS_API = "from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI"


class Interpreters:
    """Starts interpreters, and adds up their CPU time."""

    def __init__(self):
        self.seconds = 0.0

    def run(self, code: str) -> None:
        self.seconds += float(output_of(f"{code}\nimport time; print(time.process_time())"))


def measure() -> Iterator[Row]:
    seconds = measure_seconds(OURS, TYPING_EXTENSIONS, PYTHON_ALONE, rounds=100)
    seconds |= measure_seconds(RLLIBS_API, rounds=3)  # takes seconds
    measured = "importing, with the interpreter"
    for name, code, goal in (
        ("typing_extensions", TYPING_EXTENSIONS, "1.1"),
        ("Python alone", PYTHON_ALONE, ""),
        ("RLlib's API", RLLIBS_API, ""),
    ):
        yield Row(measured, seconds[OURS], name, seconds[code], "ms", goal)
    for name, code in ("Python alone", PYTHON_ALONE), ("RLlib's API", RLLIBS_API):
        yield Row("memory after importing", resident(OURS), name, resident(code), "MB")


def measure_seconds(*codes: str, rounds: int) -> dict[str, float]:
    interpreters = Interpreters()
    return interleave(
        {code: lambda code=code: interpreters.run(code) for code in codes},
        rounds=rounds,
        timer=lambda: interpreters.seconds,
    )


def resident(code: str) -> int:
    """Returns the resident bytes of an interpreter that has imported psutil as well."""
    return int(output_of(f"{code}\nimport psutil; print(psutil.Process().memory_info().rss)"))


def output_of(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True)
