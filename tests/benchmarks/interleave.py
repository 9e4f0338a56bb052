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
    ours: float
    """Seconds or bytes."""
    other: str
    its: float
    """What the other takes."""
    unit: str
    """That the table has them in: ns, µs, ms or MB."""
    goal: str = ""
    """What the ratio of the two is not to exceed."""


def interleave(
    sides: dict[str, Callable[[], Any]],
    *,
    rounds: int = 50,
    timer: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Measures the seconds that a call takes.

    Args:
        sides: What is compared, by name.
        rounds: How often all of them are timed, each for about 10 ms, or one call.
        timer: By default the time of the processor, which goes on without other processes.

    Returns:
        The median of the rounds, by name.
    """
    timers = {name: timeit.Timer(side, timer=timer) for name, side in sides.items()}
    numbers = {name: max(1, int(0.01 / min(side.repeat(3, 1)))) for name, side in timers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names, shuffle = [*sides], random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(names)  # what runs after its like may find more in the processor's caches
        for name in names:
            seconds[name].append(timers[name].timeit(numbers[name]) / numbers[name])
    return {name: statistics.median(values) for name, values in seconds.items()}
