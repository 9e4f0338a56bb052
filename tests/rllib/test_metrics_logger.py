"""Our `MetricsLogger` and RLlib's give the same numbers, with two intentional differences."""

import math

import pytest
import torch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger as RLlibMetricsLogger

from self_supervised_loss import MetricsLogger

SHARED_SETTINGS = [
    *({"reduce": reduce} for reduce in ("mean", "min", "max", "sum", "ema", "item")),
    *({"reduce": reduce, "window": 2} for reduce in ("mean", "min", "max", "sum")),
    {"reduce": "ema", "ema_coeff": 0.5},
]
REPORTS = [[1.0, 4.0, -2.0], [3.0], [0.5, 0.25, 8.0, 2.0, 1.0, 7.0], [2.0, 2.0]]


@pytest.fixture
def loggers():
    return MetricsLogger(), RLlibMetricsLogger()


@pytest.mark.parametrize("make", [float, torch.tensor])
@pytest.mark.parametrize("setting", SHARED_SETTINGS, ids=str)
def test_a_setting_gives_the_same_numbers_in_each_report(setting, make, loggers):
    ours, rllibs = loggers
    for logger in loggers:
        logger.log_value(("icm", "loss"), make(5.0), **setting)
    for values in REPORTS:
        for value in values:
            for logger in loggers:
                logger.log_value(("icm", "loss"), make(value))
        assert ours.peek(("icm", "loss")) == pytest.approx(rllibs.peek(("icm", "loss")))
        reduced, reduced_by_rllib = ours.reduce(), rllibs.reduce(compile=True)
        assert reduced["icm"]["loss"] == pytest.approx(reduced_by_rllib["icm"]["loss"])


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ((1.0, 2.0), {}, (1.5, 1.01)),
        ((1.0, math.nan), {"reduce": "mean"}, (math.nan, 1.0)),
    ],
    ids=["the default is a mean, and RLlib's a moving average", "NaN is visible"],
)
def test_our_logger_differs_in_two_points(values, settings, expected, loggers):
    for value in values:
        for logger in loggers:
            logger.log_value("loss", value, **settings)
    means = [logger.peek("loss") for logger in loggers]
    assert means == pytest.approx(expected, nan_ok=True)
