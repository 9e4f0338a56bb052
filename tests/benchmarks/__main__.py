"""Measures what the library costs, and prints the table of `README.md`. It takes two to four
minutes.

    python tests/benchmarks

Two times in one line were taken in turns, so that their ratio holds although the machine may be
busy. Memory is read once.
"""

import logging
import platform
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
try:
    import torch
    from benchmarks import compiled_step, dispatch, imports, metrics, training_step
    from tqdm import tqdm
except ModuleNotFoundError as error:
    sys.exit(f"The package {error.name} is missing: run pip install -e '.[dev]' in the top folder.")


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # RLlib has much to say
    rows = []
    with tqdm() as progress:
        for benchmark in imports, dispatch, training_step, compiled_step, metrics:
            for row in benchmark.measure():
                rows.append(row)
                progress.set_description(row.what)
                progress.update()
    packages = "self-supervised-loss", "ray", "torch", "typing_extensions"
    print(
        f"Python {platform.python_version()},",
        ", ".join(f"{name} {version(name)}" for name in packages),
        "\n",
    )
    print("| what | ours | beside | its | ratio | goal |\n| --- | ---: | --- | ---: | ---: | --- |")
    for what, ours, other, value, ratio, goal in rows:
        print(f"| {what} | {ours} | {other} | {value} | {ratio:.3g} | {goal} |")


if __name__ == "__main__":
    main()
