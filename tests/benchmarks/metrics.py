"""What logging takes beside RLlib's `MetricsLogger`: the time of a call, and the memory after
100,000 of them."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch
from benchmarks.interleave import Row, interleave
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger as RLlibMetricsLogger

from self_supervised_loss import MetricsLogger

LOGGERS = {"ours": MetricsLogger, "RLlib's": RLlibMetricsLogger}
NUM_CALLS = 100_000


def measure() -> Iterator[Row]:
    """Logs numbers, and losses that hang on a graph."""
    for method in "log_value", "log_dict":
        for kind in "number", "loss":
            what = f"{method} of a {kind}"
            value = _make(kind)
            logs = {name: _log_of(name, method) for name in LOGGERS}
            seconds = interleave(
                {name: lambda log=log, value=value: log(value) for name, log in logs.items()}
            )
            microseconds = {name: f"{value * 1e6:.1f} µs" for name, value in seconds.items()}
            ratio = seconds["ours"] / seconds["RLlib's"]
            goal = "2.5" if what == "log_value of a loss" else ""
            yield Row(what, microseconds["ours"], "RLlib's", microseconds["RLlib's"], ratio, goal)

            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                grown = {name: pool.apply(_memory, (name, method, kind)) for name in LOGGERS}
            megabytes = {name: f"{value / 1e6:.1f} MB" for name, value in grown.items()}
            ratio = grown["ours"] / grown["RLlib's"]
            yield Row(
                f"memory of 100,000 {what}",
                megabytes["ours"],
                "RLlib's",
                megabytes["RLlib's"],
                ratio,
            )
    yield from _measure_windows()


def _measure_windows() -> Iterator[Row]:
    """Logs into full windows, a small one and a large one."""
    logs = {}
    for window in 10, 100_000:
        log = functools.partial(MetricsLogger().log_value, "loss", 1.0, window=window)
        for _ in range(window):
            log()
        logs[window] = log
    seconds = interleave({str(window): log for window, log in logs.items()})
    microseconds = {name: f"{value * 1e6:.1f} µs" for name, value in seconds.items()}
    ratio = seconds["100000"] / seconds["10"]
    yield Row(
        "log_value, window=100,000",
        microseconds["100000"],
        "window=10",
        microseconds["10"],
        ratio,
        "1 but for noise",
    )


def _make(kind: str) -> Any:
    return 1.0 if kind == "number" else torch.ones((), requires_grad=True) * 2


def _log_of(logger: str, method: str) -> Callable[[Any], None]:
    log = getattr(LOGGERS[logger](), method)
    if method == "log_value":
        return lambda value: log("loss", value, reduce="mean")
    return lambda value: log(
        {"forward_loss": value, "inverse_loss": value}, key="icm", reduce="mean"
    )


def _memory(logger: str, method: str, kind: str) -> int:
    log = _log_of(logger, method)
    for _ in range(100):
        log(_make(kind))
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(NUM_CALLS):
        log(_make(kind))
    return max(process.memory_info().rss - before, 0)
