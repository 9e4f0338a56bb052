"""Arrays of NumPy and JAX in the logger. What is about torch alone is in `test_torch.py`."""

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from self_supervised_loss import MetricsLogger
from self_supervised_loss.metrics import Reduce


@pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint8, [200, 100], {"mean": 150, "sum": 300, "min": 100, "max": 200, "item": 100}),
        (np.bool_, [True, False, True, True], {"mean": 0.75, "sum": 3, "min": 0, "max": 1, "item": 1}),
        (np.float16, [1] * 3000, {"mean": 1, "sum": 3000, "min": 1, "max": 1, "item": 1}),
        (ml_dtypes.bfloat16, [1] * 3000, {"mean": 1, "sum": 3000, "min": 1, "max": 1, "item": 1}),
    ],
    ids=["uint8", "bool", "float16", "bfloat16"],
)
@pytest.mark.parametrize("reduce", ["mean", "sum", "min", "max", "item"])
def test_small_types_neither_wrap_around_nor_stand_still(
    to_array: Any, dtype: Any, values: list[float], expected: dict[str, float], reduce: Reduce
) -> None:
    metrics = MetricsLogger()
    for value in to_array(np.array(values, dtype=dtype)):
        metrics.log_value("value", value, reduce=reduce)
    assert metrics.peek("value") == expected[reduce]


@pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    ("dtype", "reduced"),
    [
        ("bool", "int32"),
        ("uint8", "int32"),
        ("int16", "int32"),
        ("uint32", "uint32"),
        ("float16", "float32"),
        ("bfloat16", "float32"),
    ],
)
def test_small_types_are_reduced_in_32_bits(dtype: str, reduced: str, to_array: Any) -> None:
    metrics = MetricsLogger()
    for value in to_array(np.ones(2, dtype=dtype)):
        metrics.log_value("value", value, reduce="sum")
    assert metrics.peek("value").dtype == reduced


def test_an_array_that_is_changed_in_place_later_was_logged_as_it_was() -> None:
    metrics = MetricsLogger()
    array = np.array([1.0, 2.0])
    for reduce in ("mean", "sum", "min", "max", "ema", "item"):
        metrics.log_value(reduce, array, reduce=reduce)
    array += 10
    assert all(logged.tolist() == [1.0, 2.0] for logged in metrics.reduce().values())


@pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray, torch.tensor], ids=["numpy", "jax", "torch"])
@pytest.mark.parametrize("turn", [1, -1], ids=["the number first", "the array first"])
@pytest.mark.parametrize(
    ("reduce", "expected"), [("mean", [1.5, 2.5]), ("sum", [3, 5]), ("min", [1, 2]), ("max", [2, 3])]
)
def test_a_number_and_an_array_go_together(reduce: Reduce, expected: list[float], turn: int, to_array: Any) -> None:
    metrics = MetricsLogger()
    for value in [2.0, to_array([1.0, 3.0])][::turn]:
        metrics.log_value("value", value, reduce=reduce)
    assert metrics.peek("value").tolist() == expected
