"""Measures the costs of the library, and prints the table of `README.md`.

    python tests/benchmarks

It needs the extra `all`. The alternatives in a row are timed in turns, so their ratio also holds on
a busy machine. Memory is read once.
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
    logging.disable(logging.WARNING)  # RLlib warns a lot
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {versions}\n")
    print("| measured | ours | compared with | theirs | ratio | goal |")
    print("| --- | ---: | --- | ---: | ---: | --- |")
    for benchmark in imports, check_module, dispatch, training_step, metrics:
        for measured, ours, other, theirs, unit, goal in benchmark.measure():
            figures = f"{show(ours, unit)} | {other} | {show(theirs, unit)} | {ours / theirs:.3g}"
            print(f"| {measured} | {figures} | {goal} |", flush=True)


def show(value: float, unit: str) -> str:
    value *= UNITS[unit]
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


if __name__ == "__main__":
    main()
