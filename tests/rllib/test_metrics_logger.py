"""Our `MetricsLogger` and RLlib's give the same numbers, but for the two differences that are
meant."""

import math
from typing import Any

import pytest
import torch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger as RLlibMetricsLogger

from self_supervised_loss import MetricsLogger

# Every setting that both have.
SETTINGS: list[dict[str, Any]] = [
    *({"reduce": reduce} for reduce in ("mean", "min", "max", "sum", "ema", "item")),
    *(
        {"reduce": reduce, "window": window}
        for reduce in ("mean", "min", "max", "sum")
        for window in (1, 2, 5)
    ),
    *({"reduce": "ema", "ema_coeff": ema_coeff} for ema_coeff in (0.1, 0.5)),
]
REPORTS = [[1.0, 4.0, -2.0], [3.0], [0.5, 0.25, 8.0, 2.0, 1.0, 7.0], [2.0, 2.0]]


def number(value: Any) -> float:
    return float(torch.as_tensor(value).detach())  # RLlib's mean keeps the graph


@pytest.mark.parametrize(
    "make", [float, torch.tensor, lambda value: torch.tensor(value, requires_grad=True)]
)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_same_values_give_the_same_numbers_report_by_report(
    setting: dict[str, Any], make: Any
) -> None:
    ours, rllib = MetricsLogger(), RLlibMetricsLogger()
    for values in REPORTS:
        for value in values:
            for logger in (ours, rllib):
                logger.log_value(("icm", "loss"), make(value), **setting)
        assert number(ours.peek(("icm", "loss"))) == pytest.approx(
            number(rllib.peek(("icm", "loss")))
        )
        assert number(ours.reduce()["icm"]["loss"]) == pytest.approx(
            number(rllib.reduce(compile=True)["icm"]["loss"])
        )


def test_a_dict_gives_the_same_numbers_by_default() -> None:
    ours, rllib = MetricsLogger(), RLlibMetricsLogger()
    for value in (1.0, 4.0):
        for logger in (ours, rllib):
            logger.log_dict({"loss": value, "terms": {"error": -value}}, key="icm")
    assert (
        ours.reduce()
        == rllib.reduce(compile=True)
        == {"icm": {"loss": 2.5, "terms": {"error": -2.5}}}
    )


@pytest.mark.parametrize(
    "setting", [{"reduce": "sum"}, {"reduce": "max"}, {"reduce": "mean", "window": 2}], ids=str
)
def test_a_setting_that_was_named_once_holds(setting: dict[str, Any]) -> None:
    ours, rllib = MetricsLogger(), RLlibMetricsLogger()
    for values in REPORTS:
        for logger in (ours, rllib):
            logger.log_value("loss", values[0], **(setting if values is REPORTS[0] else {}))
            for value in values[1:]:
                logger.log_value("loss", value)
        assert ours.peek("loss") == pytest.approx(rllib.peek("loss"))
        ours.reduce()
        rllib.reduce()


def test_without_a_reduce_ours_logs_a_mean_and_rllibs_a_moving_average() -> None:
    ours, rllib = MetricsLogger(), RLlibMetricsLogger()
    for value in (1.0, 2.0):
        ours.log_value("loss", value)
        rllib.log_value("loss", value)
    assert ours.peek("loss") == 1.5
    assert rllib.peek("loss") == pytest.approx(1.01)


def test_nan_shows_in_ours_and_is_skipped_by_rllibs() -> None:
    ours, rllib = MetricsLogger(), RLlibMetricsLogger()
    for value in (1.0, math.nan):
        ours.log_value("loss", value, reduce="mean")
        rllib.log_value("loss", value, reduce="mean")
    assert math.isnan(ours.peek("loss"))
    assert rllib.peek("loss") == 1.0
