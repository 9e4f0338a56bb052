"""Options, progress bars, tables and plots, shared by the examples."""

import argparse
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
from matplotlib.figure import Figure
from tqdm import tqdm

# An SVG contains text as text. Outlines of letters would double the size of the file.
PLOT_SETTINGS = {"svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}

History: TypeAlias = dict[str, list[float]]
"""The figures shown during a training, by name, and the `"steps"` at which they were shown."""


def make_parser(
    description: str | None, *, num_seeds: int, num_steps: int
) -> argparse.ArgumentParser:
    """Makes a parser of `--seeds`, `--steps` and `--plot`. The default seeds start at 0."""
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
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def plot_file(text: str) -> Path:
    """Rejects a file that could not be written after the training."""
    path = Path(text)
    if path.suffix.lower() not in (".svg", ".pdf", ".png"):
        raise argparse.ArgumentTypeError(
            f"the file name must end in .svg, .pdf or .png, got {text!r}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}")
    return path


class Progress:
    """A progress bar that records the figures it shows in `history`."""

    def __init__(self, num_steps: int, description: str) -> None:
        self.history: History = defaultdict(list)
        # Figures after the bar would be cut off in a narrow terminal.
        bar_format = "{desc} {percentage:3.0f}%{postfix} |{bar}| {elapsed}<{remaining}"
        self._bar = tqdm(total=num_steps, desc=description, bar_format=bar_format)

    def show(self, steps: int, **figures: float) -> None:
        """Shows figures after a number of steps. The last step closes the bar."""
        for name, value in {"steps": steps, **figures}.items():
            self.history[name].append(value)
        self._bar.set_postfix(figures, refresh=False)
        self._bar.update(min(steps, self._bar.total) - self._bar.n)
        if self._bar.n == self._bar.total:
            self._bar.close()


def report_success(
    options: argparse.Namespace, histories: Mapping[str, Sequence[History]], *, title: str
) -> None:
    """Reports the figure `"success"`. `histories` has one history per seed for each label."""
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
    """Prints the last value of each curve, and saves a plot of the curves if `--plot` is set."""
    rows = [
        [f"seed {seed}", *(format(curve[-1], number_format) for curve in curves_of_seed)]
        for seed, *curves_of_seed in zip(options.seeds, *curves.values(), strict=True)
    ]
    print_table([axes["ylabel"], *curves], rows)
    if options.plot:
        save_plot(options.plot, steps, curves, **axes)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table. The first column is aligned left and the others right."""
    lines = [header, *rows]
    first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for name, *cells in lines:
        print(name.ljust(first), *map(str.rjust, cells, others), sep="  ")


def save_plot(
    path: Path, steps: Sequence[float], curves: Mapping[str, Sequence[Sequence[float]]], **axes: Any
) -> None:
    """Saves learning curves: for each label a thin line per seed and a thick line for the mean."""
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
    with matplotlib.rc_context(PLOT_SETTINGS):
        figure.savefig(path, dpi=200)
