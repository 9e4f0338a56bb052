"""What the examples share beside what they show: options, progress bars, tables and plots."""

import argparse
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.figure import Figure
from tqdm import tqdm

PLOT_FORMATS = (".svg", ".pdf", ".png")

History: TypeAlias = dict[str, list[float]]
"""What a training has shown from start to end, in columns: `"steps"`, and each figure by name."""


def make_parser(
    description: str | None, *, num_seeds: int, num_steps: int
) -> argparse.ArgumentParser:
    """Makes a parser of `--seeds`, by default from 0 on, `--steps` and `--plot`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[*range(num_seeds)],
        metavar="SEED",
        help="which seeds to run (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=number_of_steps,
        default=num_steps,
        help="steps of each run, rounded up to whole rollouts (default: %(default)s)",
    )
    parser.add_argument(
        "--plot",
        type=plot_file,
        metavar="FILE",
        help="where to save the learning curves, as .svg, .pdf or .png",
    )
    return parser


def number_of_steps(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"is at least 1, not {text}")
    return int(text)


def plot_file(text: str) -> Path:
    """Refuses before a training what could not be written after it."""
    path = Path(text)
    if path.suffix.lower() not in PLOT_FORMATS:
        raise argparse.ArgumentTypeError(
            f"the name of a plot ends in one of {', '.join(PLOT_FORMATS)}, not {text!r}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}")
    return path


class Progress:
    """A progress bar that keeps what it has shown in `history`."""

    def __init__(self, num_steps: int, description: str) -> None:
        self.history: History = defaultdict(list)
        # The figures come before the bar, where they are never cut off.
        bar_format = "{desc} {percentage:3.0f}%{postfix} |{bar}| {elapsed}<{remaining}"
        self._bar = tqdm(total=num_steps, desc=description, bar_format=bar_format)

    def show(self, steps: int, **figures: float) -> None:
        """Shows figures after so many steps. The last step closes the bar."""
        for name, value in {"steps": steps, **figures}.items():
            self.history[name].append(value)
        self._bar.set_postfix(figures, refresh=False)
        self._bar.update(min(steps, self._bar.total) - self._bar.n)
        if self._bar.n == self._bar.total:
            self._bar.close()


def report_success(
    options: argparse.Namespace, histories: Mapping[str, Sequence[History]], *, title: str
) -> None:
    """Reports the figure `"success"`. By label there is a history for each seed."""
    report(
        options,
        next(iter(histories.values()))[0]["steps"],
        {label: [history["success"] for history in each] for label, each in histories.items()},
        number_format=".0%",
        title=title,
        xlabel="steps",
        ylabel="success rate of the last 100 episodes",
        ylim=(-0.02, 1.02),
    )


def report(
    options: argparse.Namespace,
    steps: Sequence[float],
    curves: Mapping[str, Sequence[Sequence[float]]],
    *,
    number_format: str,
    **axes: Any,
) -> None:
    """Prints what each curve ends with, and saves a plot of the curves if one is asked for."""
    rows = [
        [f"seed {seed}", *(format(curve[-1], number_format) for curve in curves_of_seed)]
        for seed, *curves_of_seed in zip(options.seeds, *curves.values(), strict=True)
    ]
    print_table([axes["ylabel"], *curves], rows)
    if options.plot:
        save_plot(options.plot, steps, curves, **axes)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table with its first column on the left and the others on the right."""
    lines = [header, *rows]
    first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for name, *cells in lines:
        print(name.ljust(first), *map(str.rjust, cells, others), sep="  ")


def save_plot(
    path: Path, steps: Sequence[float], curves: Mapping[str, Sequence[Sequence[float]]], **axes: Any
) -> None:
    """Saves learning curves. By label there is a curve for each seed, drawn as a thin line, and
    their mean as a thick one."""
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
