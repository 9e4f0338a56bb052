"""Times several ways to do the same, in turns, so that whatever else the machine does slows all of
them alike."""

import random
import statistics
import time
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One line of the table: what the library takes, beside what something else takes."""

    what: str
    ours: float  # in seconds or bytes
    other: str
    its: float
    unit: str  # that the table has them in
    goal: str = ""  # what the ratio of the two is not to exceed


def interleave(
    sides: dict[str, Callable[[], Any]],
    *,
    rounds: int = 50,
    timer: Callable[[], float] = time.process_time,  # goes on without other processes
) -> dict[str, float]:
    """Returns the seconds that a call takes, by name: the median of the rounds. In each round, each
    is timed for about 10 ms, or one call."""
    timers = {name: timeit.Timer(side, timer=timer) for name, side in sides.items()}
    numbers = {name: max(1, int(0.01 / min(side.repeat(3, 1)))) for name, side in timers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names, shuffle = [*sides], random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(names)  # what runs after its like may find more in the processor's caches
        for name in names:
            seconds[name].append(timers[name].timeit(numbers[name]) / numbers[name])
    return {name: statistics.median(values) for name, values in seconds.items()}
