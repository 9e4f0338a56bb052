"""Measures what the library costs, and prints the part of `README.md` that says so.

    python tests/benchmarks

It needs the extra `all`. What stands in one line was timed in turns, so that the ratio holds
although the machine may be busy. Memory is read once.
"""

import logging
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import check_module, dispatch, imports, metrics, training_step

UNITS = {"ns": 1e9, "µs": 1e6, "ms": 1e3, "MB": 1e-6}
PACKAGES = "self-supervised-loss", "ray", "tianshou", "torch"


def main() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # RLlib has much to say
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {versions}\n")
    print("| what | ours | beside | its | ratio | goal |\n| --- | ---: | --- | ---: | ---: | --- |")
    for benchmark in imports, check_module, dispatch, training_step, metrics:
        for what, ours, other, its, unit, goal in benchmark.measure():
            figures = f"{show(ours, unit)} | {other} | {show(its, unit)} | {ours / its:.3g}"
            print(f"| {what} | {figures} | {goal} |", flush=True)


def show(value: float, unit: str) -> str:
    value *= UNITS[unit]
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


if __name__ == "__main__":
    main()
