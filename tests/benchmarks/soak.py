"""A long run: does memory stay flat over a million calls, and over 100,000 classes that come and
go?

    python tests/benchmarks/soak.py

Each scenario runs in a process of its own, whose memory no other one has raised.
`tests/unit/test_soak.py` runs the same scenarios for a second.
"""

import argparse
import gc
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, cycle, islice
from typing import Any

from self_supervised_loss import Learner, SelfSupervisedLossAPI

# The least that a leak keeps is a pointer per call, 7.5 MB in the 990,000 calls after warm-up, or a
# class of 1 kB, 95 MB in 99,000. By itself Python's allocator takes memory in arenas of 1 MB, of
# which some are half empty.
MB_THAT_IS_FLAT = 4


def log_and_return_loss(metrics: Any, module_id: str, batch: dict[str, Any]) -> float:
    loss = float(batch["obs"])
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


# The scenarios. Each goes on for ever, and yields what the next step is to let go of.


def one_learner() -> Iterator[Any]:
    learner = LoggingLearner(module={"own": Curious(), "fallback": Plain()})
    for step in count():
        yield compute_losses(learner, step)


def learners_that_come_and_go() -> Iterator[Any]:
    modules = {"own": Curious(), "fallback": Plain()}
    for step in count():
        learner = LoggingLearner(module=modules)
        compute_losses(learner, step)
        yield learner


def classes_that_come_and_go() -> Iterator[Any]:
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
            # isinstance of an ABC asks all its subclasses, also the dropped ones until they are
            # collected
            gc.collect()
        yield module_class


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (one_learner, learners_that_come_and_go, classes_that_come_and_go)
}


def soak(name: str, number: int) -> tuple[float, float]:
    """Returns the resident memory, in MB, after a hundredth of the steps and after all, or as soon
    as it has grown."""
    import psutil  # not above: the unit tests run where neither is installed
    from tqdm import tqdm

    warmed_up = resident = 0.0
    for step, _ in enumerate(
        tqdm(islice(SCENARIOS[name](), number), name, number, mininterval=1), start=1
    ):
        if step % max(number // 100, 1) == 0:
            gc.collect()
            resident = psutil.Process().memory_info().rss / 2**20
            warmed_up = warmed_up or resident
            if resident - warmed_up > MB_THAT_IS_FLAT:
                break
    return warmed_up, resident


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures whether memory stays flat in a long run."
    )
    parser.add_argument(
        "--calls",
        type=int,
        default=1_000_000,
        help="of compute_losses, on one and on many learners",
    )
    parser.add_argument(
        "--classes", type=int, default=100_000, help="that are made, asked for a loss and dropped"
    )
    options = parser.parse_args()

    rows = []
    for name in SCENARIOS:
        number = options.classes if name == "classes_that_come_and_go" else options.calls
        start = time.perf_counter()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            warmed_up, at_the_end = process.submit(soak, name, number).result()
        rows.append((name, number, time.perf_counter() - start, warmed_up, at_the_end))

    print(
        f"{'scenario':<26} {'number':>9} {'seconds':>8} {'MB after warm-up':>17} "
        f"{'MB at the end':>14}"
    )
    for name, number, seconds, warmed_up, at_the_end in rows:
        print(f"{name:<26} {number:>9,} {seconds:>8.0f} {warmed_up:>17.1f} {at_the_end:>14.1f}")
    if grown := [
        name for name, *_, warmed_up, at_the_end in rows if at_the_end - warmed_up > MB_THAT_IS_FLAT
    ]:
        sys.exit(
            f"Memory grew by more than {MB_THAT_IS_FLAT} MB after warm-up: {', '.join(grown)}."
        )


if __name__ == "__main__":
    main()
