"""Measures what the library costs, and prints the part of `README.md` that says so.

    python tests/benchmarks

It takes about three minutes. What stands in one line was timed in turns, so that the ratio holds
although the machine may be busy. Memory is read once.
"""

import logging
import platform
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
try:
    import torch
    from benchmarks import dispatch, imports, metrics, training_step
    from tqdm import tqdm
except ModuleNotFoundError as error:
    sys.exit(f"The package {error.name} is missing: run pip install -e '.[dev]' in the top folder.")

UNITS = {"ns": 1e9, "µs": 1e6, "ms": 1e3, "MB": 1e-6}
PACKAGES = "self-supervised-loss", "ray", "tianshou", "torch"


def main() -> None:
    """Prints the versions and the table."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # RLlib has much to say
    rows = []
    with tqdm() as progress:
        for benchmark in imports, dispatch, training_step, metrics:
            for row in benchmark.measure():
                rows.append(row)
                progress.set_description(row.what)
                progress.update()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {versions}\n")
    print("| what | ours | beside | its | ratio | goal |\n| --- | ---: | --- | ---: | ---: | --- |")
    for what, ours, other, its, unit, goal in rows:
        ours_in_unit, its_in_unit = _show(ours, unit), _show(its, unit)
        print(f"| {what} | {ours_in_unit} | {other} | {its_in_unit} | {ours / its:.3g} | {goal} |")


def _show(value: float, unit: str) -> str:
    value *= UNITS[unit]
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


if __name__ == "__main__":
    main()
