"""Measures what the library costs, and prints one table. It takes about four minutes.

    python tests/benchmarks

Two times in one line were taken in turns, so that their ratio holds although the machine may be busy. Only those for
100 and for 10,000 modules were taken one after the other. Memory is read once.
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
    print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in packages))
    print(f"\n{'what':<52}{'ours':>12}  {'beside':<18}{'':>12}{'ratio':>9}  to reach")
    for row in rows:
        print(f"{row.what:<52}{row.ours:>12}  {row.other:<18}{row.value:>12}{row.ratio:>9.3g}  {row.to_reach}")


if __name__ == "__main__":
    main()
