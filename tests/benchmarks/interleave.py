"""Times several ways to do the same, in turns, so that whatever else the machine does slows all of
them alike."""

import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

import pyperf


class Row(NamedTuple):
    """One line of the table: what the library takes, beside what something else takes."""

    what: str
    ours: str
    other: str
    value: str
    """What the other takes."""
    ratio: float
    to_reach: str = ""


def interleave(sides: dict[str, Callable[[], Any]], *, rounds: int = 200) -> dict[str, float]:
    """Measures the seconds that a call takes.

    Args:
        sides: What is compared, by name.
        rounds: How often all of them are timed, in turns, each for about a millisecond or one call.

    Returns:
        The median of the rounds, by name.
    """
    timers = {name: timeit.Timer(side) for name, side in sides.items()}
    numbers = {name: max(1, int(1e-3 / min(timer.repeat(3, 1)))) for name, timer in timers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = [*sides]
    for _ in range(rounds):
        for name in names:
            seconds[name].append(timers[name].timeit(numbers[name]) / numbers[name])
        names.reverse()  # what comes first in a round may be slower
    return {
        name: pyperf.Benchmark(
            [pyperf.Run(values, collect_metadata=False, metadata={"name": name})]
        ).median()
        for name, values in seconds.items()
    }
