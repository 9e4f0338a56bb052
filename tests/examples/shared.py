"""What the examples share beside what they show: options, progress bars, tables and plots."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

PLOT_FORMATS = (".svg", ".pdf", ".png")


def parse_options(
    description: str | None, *, num_seeds: int, num_steps: int, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parses `--seeds`, `--steps` and `--plot`.

    Args:
        description: What `--help` shows first, the docstring of the program.
        num_seeds: How many seeds are run by default, from 0 on.
        num_steps: How many steps a run has by default.
        argv: The arguments, by default those of the command line.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    seeds = [*range(num_seeds)]
    parser.add_argument(
        "--seeds",
        type=whole_number(0, 2**32 - 1),
        nargs="+",
        default=seeds,
        metavar="SEED",
        help=f"which seeds to run (default: {' '.join(map(str, seeds))})",
    )
    parser.add_argument(
        "--steps",
        type=whole_number(1, 10**9),
        default=num_steps,
        help="steps of each run, rounded up to whole rollouts (default: %(default)s)",
    )
    add_plot_option(parser)
    return parser.parse_args(argv)


def add_plot_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--plot`."""
    parser.add_argument(
        "--plot",
        type=plot_file,
        metavar="FILE",
        help="where to save the learning curves, as .svg, .pdf or .png",
    )


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Makes a `type` for `ArgumentParser.add_argument` that takes whole numbers in a range, its
    bounds included."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {minimum} to {maximum}"
            )
        return int(text)

    return parse


def plot_file(text: str) -> Path:
    """Is a `type` for `ArgumentParser.add_argument` that takes the name of a plot that can be
    written."""
    path = Path(text)
    if path.suffix.lower() not in PLOT_FORMATS:
        raise argparse.ArgumentTypeError(
            f"the name of a plot ends in one of {', '.join(PLOT_FORMATS)}, not {text!r}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}")
    return path


def progress_bar(total: int, description: str) -> Any:
    """Makes a progress bar. What its `set_postfix_str` is given is shown before the bar, where it
    is never cut off."""
    bar_format = "{desc} {percentage:3.0f}%{postfix} |{bar}| {elapsed}<{remaining}"
    return tqdm(total=total, desc=description, bar_format=bar_format)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table with its first column on the left and the others on the right. A row may end
    early."""
    lines = [header, *rows]
    first, *others = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    print()
    for name, *cells in lines:
        print(
            f"{name:<{first}}",
            *(f"{cell:>{width}}" for cell, width in zip(cells, others, strict=False)),
            sep="  ",
        )


def save_plot(
    path: Path, steps: Sequence[int], curves: Mapping[str, Sequence[Sequence[float]]], **axes: Any
) -> None:
    """Saves learning curves.

    Args:
        path: Where to. Its suffix is one of `PLOT_FORMATS`.
        steps: The x values of every curve.
        curves: By label, a curve for each seed. They are drawn as thin lines, and their mean as a
            thick one.
        **axes: Properties of the axes, such as `title`, `ylabel` and `yscale`.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    plot = figure.add_subplot(**axes)
    for number, (label, per_seed) in enumerate(curves.items()):
        color, linestyle = f"C{number}", "--" if number else "-"
        for curve in per_seed:
            plot.plot(steps, curve, color=color, linestyle=linestyle, linewidth=0.8, alpha=0.4)
        mean = [sum(values) / len(values) for values in zip(*per_seed, strict=True)]
        plot.plot(steps, mean, color=color, linestyle=linestyle, linewidth=2, label=label)
    num_seeds = max(map(len, curves.values()))
    plot.legend(
        title="one seed"
        if num_seeds == 1
        else f"mean of {num_seeds} seeds (thin lines: one seed each)"
    )
    plot.xaxis.set_major_formatter("{x:,.0f}")
    plot.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)
