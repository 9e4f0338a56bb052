"""Times several ways to do the same, in turns, so other programs slow down all of them alike."""

import random
import statistics
import time
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row of the table: the cost of the library and of an alternative."""

    measured: str
    ours: float  # in seconds or bytes
    other: str
    theirs: float
    unit: str  # in the table
    goal: str = ""  # the upper bound on the ratio


def interleave(
    sides: dict[str, Callable[[], Any]],
    *,
    rounds: int = 50,
    timer: Callable[[], float] = time.process_time,  # counts this process only
) -> dict[str, float]:
    """Returns the seconds that a call takes, by name: the median of the rounds.

    In each round, each is timed for about 10 ms, or one call. The median is one of times relative
    to the mean of their round, because a busy or hot processor slows down whole rounds.
    """
    timers = {name: timeit.Timer(side, timer=timer) for name, side in sides.items()}
    numbers = {name: max(1, int(0.01 / min(side.repeat(3, 1)))) for name, side in timers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names, shuffle = [*sides], random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(names)  # a similar call before it may fill the processor's caches
        for name in names:
            seconds[name].append(timers[name].timeit(numbers[name]) / numbers[name])
    means = [statistics.fmean(times) for times in zip(*seconds.values(), strict=True)]
    return {
        name: statistics.median(means)
        * statistics.median(time / mean for time, mean in zip(values, means, strict=True))
        for name, values in seconds.items()
    }
