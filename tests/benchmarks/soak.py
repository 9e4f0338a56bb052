"""Checks that memory stays flat over a million calls, and over 100,000 classes that are dropped.

    python tests/benchmarks/soak.py

Each scenario runs in a separate process, so no other scenario has raised its memory.
`tests/unit/test_soak.py` runs the same scenarios for a second.
"""

import gc
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, cycle, islice
from typing import Any

from self_supervised_loss import Learner, SelfSupervisedLossAPI

# The smallest leak keeps a pointer per call, 7.5 MB in the 990,000 calls after warm-up, or a class
# of 1 kB, 95 MB in 99,000. Python's allocator takes memory in arenas of 1 MB, some of them half
# empty.
MB_THAT_IS_FLAT = 4
REDUCTIONS = "min", "max", "sum", "ema", "item"


def log_and_return_loss(metrics: Any, module_id: str, batch: dict[str, Any]) -> float:
    loss = float(batch["obs"])
    reduce = REDUCTIONS[batch["obs"] % len(REDUCTIONS)]
    metrics.log_value((module_id, reduce), loss, reduce=reduce)
    metrics.log_value((module_id, "recent_loss"), loss, window=10)
    metrics.log_dict({"loss": loss, "terms": {"error": -loss}}, key=module_id)
    return loss


class Plain: ...


class Curious(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, learner, module_id, batch, **kwargs):
        return log_and_return_loss(learner.metrics, module_id, batch)


class LoggingLearner(Learner):
    def compute_loss_for_module(self, *, module_id, batch, **kwargs):
        return log_and_return_loss(self.metrics, module_id, batch)


def compute_losses(learner: Learner, step: int) -> dict[str, Any]:
    batch = {module_id: {"obs": step % 1000} for module_id in learner.module}
    return learner.compute_losses(fwd_out=batch, batch=batch)


# The scenarios. Each runs forever, and yields after each step.


def one_learner() -> Iterator[None]:
    learner = LoggingLearner(module={"own": Curious(), "fallback": Plain()})
    for step in count():
        compute_losses(learner, step)
        yield


def dropped_learners() -> Iterator[None]:
    modules = {"own": Curious(), "fallback": Plain()}
    for step in count():
        learner = LoggingLearner(module=modules)
        compute_losses(learner, step)
        yield


def dropped_classes() -> Iterator[None]:
    loss_method = {"compute_self_supervised_loss": Curious.compute_self_supervised_loss}
    learner = LoggingLearner(module={})
    for step, kind in enumerate(cycle(["derived", "registered", "duck-typed", "plain"])):
        bases = (SelfSupervisedLossAPI,) if kind == "derived" else ()
        module_class = type("Module", bases, {} if kind == "plain" else loss_method)
        if kind == "registered":
            SelfSupervisedLossAPI.register(module_class)
        learner.module["m"] = module_class()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of duck typing
            compute_losses(learner, step)
        if step % 100 == 0:
            # isinstance with an ABC asks all its subclasses, including dropped ones that are not
            # yet collected.
            gc.collect()
        yield


SCENARIOS = (
    (one_learner, 1_000_000),
    (dropped_learners, 1_000_000),
    (dropped_classes, 100_000),
)


def resident_mb_after(steps: Iterator[None], number: int) -> float:
    import psutil  # not above: the unit tests run where it is not installed

    for _ in islice(steps, number):
        pass
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def soak(scenario: Callable[[], Iterator[None]], number: int) -> tuple[float, float]:
    """Returns the resident memory, in MB, after a hundredth of the steps and after all."""
    steps, warm_up = scenario(), number // 100
    return resident_mb_after(steps, warm_up), resident_mb_after(steps, number - warm_up)


def main() -> None:
    grown = []
    for scenario, number in SCENARIOS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            warmed_up, at_the_end = process.submit(soak, scenario, number).result()
        name = scenario.__name__
        print(
            f"{number:,} of {name}: {warmed_up:.1f} MB after warm-up, {at_the_end:.1f} at the end"
        )
        if at_the_end - warmed_up > MB_THAT_IS_FLAT:
            grown.append(name)
    if grown:
        sys.exit(f"Memory grew by more than {MB_THAT_IS_FLAT} MB: {', '.join(grown)}.")


if __name__ == "__main__":
    main()
