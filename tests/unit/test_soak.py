"""Memory stays flat. The scenarios are those of `tests/benchmarks/soak.py`, which runs them a
million times."""

import gc
import tracemalloc
from itertools import islice, pairwise

import pytest
from benchmarks.soak import dropped_classes, dropped_learners, one_learner

STEPS = 500


@pytest.fixture(autouse=True)
def frozen():
    """Has `gc.collect()` pass over what other tests have imported, which would take a second each
    time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def run(steps):
    for _ in islice(steps, STEPS):
        pass
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize(
    ("scenario", "bytes_per_step"),
    [
        (one_learner, 4),  # a pointer takes 8
        (dropped_learners, 4),
        # A class takes over 1,000. The caches of abc go up and down by 100.
        (dropped_classes, 500),
    ],
)
def test_memory_does_not_grow_after_warm_up(scenario, bytes_per_step):
    tracemalloc.start()
    steps = scenario()
    sizes = [run(steps) for _ in range(5)]
    tracemalloc.stop()
    # A leak grows each time. A table that is made larger, as those of abc are with more classes,
    # grows once.
    assert min(later - earlier for earlier, later in pairwise(sizes)) < bytes_per_step * STEPS
