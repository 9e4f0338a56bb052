"""Time and memory of logging, compared with RLlib's `MetricsLogger`."""

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
    """Logs numbers and losses, and into windows of two sizes."""
    for measured, method, value in (
        ("log_value of a number", "log_value", 1.0),
        ("log_value of a loss", "log_value", new_loss()),
        ("log_dict of a number", "log_dict", 1.0),
        ("log_dict of a loss", "log_dict", new_loss()),
    ):
        logs = {name: log_of(name, method) for name in LOGGERS}
        seconds = interleave(
            {name: lambda log=log, value=value: log(value) for name, log in logs.items()}
        )
        yield Row(measured, seconds["ours"], "RLlib's", seconds["RLlib's"], "µs")

    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        grown = {name: pool.apply(memory_of_losses, (name,)) for name in LOGGERS}
    measured = f"memory of {NUM_CALLS:,} log_value of a loss"
    yield Row(measured, grown["ours"], "RLlib's", grown["RLlib's"], "MB")

    logs = {}
    for window in 10, 100_000:
        log = functools.partial(MetricsLogger().log_value, "loss", 1.0, window=window)
        for _ in range(window):
            log()
        logs[f"window={window:,}"] = log
    small, large = logs
    seconds = interleave(logs)
    yield Row(f"log_value, {large}", seconds[large], small, seconds[small], "µs")


def new_loss() -> torch.Tensor:
    return torch.ones((), requires_grad=True) * 2


def log_of(logger: str, method: str) -> Callable[[Any], None]:
    log = getattr(LOGGERS[logger](), method)
    if method == "log_value":
        return lambda value: log("loss", value, reduce="mean")
    return lambda value: log(
        {"forward_loss": value, "inverse_loss": value}, key="icm", reduce="mean"
    )


def memory_of_losses(logger: str) -> int:
    log = log_of(logger, "log_value")
    for _ in range(100):
        log(new_loss())
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(NUM_CALLS):
        log(new_loss())
    return max(process.memory_info().rss - before, 0)
