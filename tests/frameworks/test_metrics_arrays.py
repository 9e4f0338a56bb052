"""Arrays of NumPy, JAX and torch in the logger."""

import gc
import math
import weakref

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from frameworks.shared import SETTINGS
from torch.utils._python_dispatch import TorchDispatchMode

from self_supervised_loss import MetricsLogger

LAST = [{"reduce": "item"}, {"reduce": "item", "window": 2}, {"window": 1}]
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)
each_setting_of_one_shape = pytest.mark.parametrize(
    "setting", [setting for setting in SETTINGS if setting not in LAST], ids=str
)
each_window = pytest.mark.parametrize("window", [None, 500])


def to_torch(array):
    if array.dtype.kind == "V":  # a type of ml_dtypes
        return torch.tensor(array.astype(np.float32)).to(getattr(torch, array.dtype.name))
    return torch.tensor(np.asarray(array))


FRAMEWORKS = {"numpy": np.array, "jax": jnp.array, "torch": to_torch}
each_framework = pytest.mark.parametrize("to_array", FRAMEWORKS.values(), ids=FRAMEWORKS.keys())


def logged(values, **settings):
    """Returns a logger that has some values under one key, `"value"`."""
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("value", value, **settings)
    return metrics


@each_setting
@each_framework
def test_arrays_are_reduced_element_by_element_and_nan_shows(to_array, setting):
    first = np.array([1.0, 8.0, np.nan, 1.0])
    second = np.array([3.0, 4.0, 1.0, np.nan])
    expected = {
        "mean": (first + second) / 2,
        "min": np.minimum(first, second),
        "max": np.maximum(first, second),
        "sum": first + second,
        "ema": 0.99 * first + 0.01 * second,
        "item": second,
    }
    reduced = np.asarray(logged(map(to_array, (first, second)), **setting).peek("value"))
    np.testing.assert_allclose(reduced, expected[setting["reduce"]], rtol=1e-6)


@each_framework
@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint8, [200, 100], {"mean": 150, "sum": 300, "min": 100, "max": 200, "item": 100}),
        (np.bool_, [1, 1, 0, 1], {"mean": 0.75, "sum": 3, "min": 0, "max": 1, "item": 1}),
        (np.float16, [40_000, 60_000], {"mean": 50_000, "sum": 100_000}),
        (ml_dtypes.bfloat16, [1] * 300, {"mean": 1, "sum": 300}),  # 256 + 1 is 256 in it
        (np.int32, [2**30] * 3, {"mean": 2**30}),
        (np.uint16, [60_000] * 2, {"mean": 60_000, "sum": 120_000, "max": 60_000, "item": 60_000}),
        (np.uint32, [3_000_000_000], {"mean": 3e9, "sum": 3e9, "min": 3e9, "item": 3e9}),
        (ml_dtypes.float8_e4m3fn, [448] * 2, {"mean": 448, "sum": 896, "max": 448, "item": 448}),
        (ml_dtypes.int4, [7, 6], {"mean": 6.5, "sum": 13, "min": 6, "max": 7, "item": 6}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@each_window
def test_small_types_neither_overflow_nor_stop_growing(to_array, dtype, values, expected, window):
    if to_array is to_torch and dtype == ml_dtypes.int4:
        return  # torch has no such type
    for reduce, result in expected.items():
        arrays = map(to_array, np.array(values, dtype=dtype))
        reduced = logged(arrays, reduce=reduce, window=window).peek("value")
        assert float(reduced) == result
        if reduce != "item":
            has_floats = reduce == "mean" or "float" in dtype.__name__
            assert (np.asarray(reduced).dtype.kind == "f") == has_floats


def test_a_number_first_does_not_make_half_precision_stop_growing():
    values = [0.0] + [torch.ones((), dtype=torch.bfloat16)] * 300
    assert float(logged(values, reduce="sum").peek("value")) == 300


@pytest.mark.parametrize("to_array", [np.array, to_torch], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    # the largest, and two that float32 lacks
    [(np.int32, 2**31 - 1), (np.int64, 2**40 + 1), (np.int64, -(2**40) - 1)],
)
@each_window
def test_integers_are_reduced_exactly(window, dtype, value, to_array):
    arrays = [to_array(np.array(value, dtype=dtype))] * 3
    for reduce in ("mean", "sum", "min", "max", "item"):
        metrics = logged(arrays, reduce=reduce, window=window)
        first = metrics.reduce()["value"]
        metrics.log_dict({"value": arrays[0]})
        for reduced, count in (first, 3), (metrics.reduce()["value"], 1):
            assert float(reduced) == (count * value if reduce == "sum" else value)
            assert (np.asarray(reduced).dtype.kind == "i") == (reduce != "mean")


@pytest.mark.parametrize("to_array", [np.array, to_torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("reduce", ["mean", "min", "max", "item"])
def test_a_large_unsigned_integer_stays_positive(reduce, to_array):
    values = [to_array(np.array(2**63, dtype=np.uint64))] * 2
    assert float(logged(values, reduce=reduce).peek("value")) == 2**63


@each_setting
@each_framework
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_logged_values_and_results_may_be_changed_in_place(dtype, to_array, setting):
    value = to_array(np.array([1, 2], dtype=dtype))
    metrics = logged([value], **setting)
    value += 10
    peeked = metrics.peek("value")
    assert peeked.tolist() == [1, 2]
    peeked += 10
    reduced = metrics.reduce()["value"]
    assert reduced.tolist() == [1, 2]
    reduced += 10
    if setting == {"reduce": "ema"}:
        assert metrics.peek("value").tolist() == [1, 2]


@pytest.mark.parametrize("setting", LAST, ids=str)
@each_framework
def test_the_last_value_may_have_any_shape(to_array, setting):
    values = np.ones(2), np.zeros((3, 1)), np.array([2, 1])
    assert logged(map(to_array, values), **setting).peek("value").tolist() == [2, 1]


@each_setting_of_one_shape
@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        *(
            (make(np.ones(first)), make(np.ones(then)), f"shape {first} as before, got {then}")
            for make in FRAMEWORKS.values()
            for first, then in [((2,), (3,)), ((4, 1), (4,)), ((2,), ()), ((), (2,))]
        ),
        (torch.zeros(2), torch.zeros(2, device="meta"), "cpu as before, got torch.Tensor on meta"),
        (torch.zeros(()), torch.zeros((), device="meta"), "as before, got torch.Tensor on meta"),
        (torch.zeros(2), np.zeros(2), "torch.Tensor on cpu as before, got numpy.ndarray"),
        (jnp.zeros(()), torch.zeros(()), "ArrayImpl as before, got torch.Tensor on cpu"),
        (jnp.zeros(()), np.zeros(()), "ArrayImpl as before, got numpy.ndarray"),
    ],
)
def test_a_value_of_another_shape_or_from_another_place_is_refused(first, then, message, setting):
    # A number goes together with each of them.
    metrics = logged([first] if first.shape else [first, float(first)], **setting)
    before = metrics.peek("value").tolist()
    with pytest.raises(ValueError) as raised:
        metrics.log_value("value", then)
    assert str(raised.value).startswith("cannot log 'value': expected ")
    assert str(raised.value).endswith(message)
    assert metrics.peek("value").tolist() == before


@each_framework
@pytest.mark.parametrize(
    ("reduce", "expected"), [("mean", 1.5), ("sum", 3.0), ("min", 1.0), ("max", 2.0)]
)
@each_window
def test_a_number_fits_an_array_without_dimensions(window, reduce, expected, to_array):
    for values in ([2.0, to_array(np.array(1.0))], [to_array(np.array(2.0)), 1.0]):
        assert float(logged(values, reduce=reduce, window=window).peek("value")) == expected


@each_framework
@pytest.mark.parametrize("setting", [s for s in SETTINGS if s["reduce"] != "ema"], ids=str)
def test_after_a_reduce_values_start_over_in_any_shape_and_type(to_array, setting):
    metrics = MetricsLogger()
    arrays = np.zeros(3), np.array([-1.0, 1.0, 2.0]), np.array([[2]]), np.array([[3]])
    for value in (*map(to_array, arrays), 3.0, torch.ones(1)):
        metrics.log_value("value", value, **setting)
        reduced = metrics.reduce()["value"]
        assert np.asarray(reduced).tolist() == np.asarray(value).tolist()


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s["reduce"] != "ema"], ids=str)
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (torch.tensor(1), torch.tensor(math.inf)),
        (torch.tensor(1), torch.tensor(-math.inf)),
        (torch.tensor(1), torch.tensor(0.1)),
        (torch.tensor(1), torch.tensor(2**63 + 2**62, dtype=torch.uint64)),
        (torch.tensor(1.0), torch.tensor(2**53 + 1)),
        (torch.tensor(1.0), 2.0),
        (torch.ones((), device="meta"), torch.tensor(3.0)),
    ],
    ids=str,
)
def test_a_reduce_leaves_no_type_and_no_device_behind(first, then, setting):
    metrics = logged([first], **setting)
    metrics.reduce()
    metrics.log_dict({"value": then})
    after, alone = metrics.reduce()["value"], logged([then], **setting).reduce()["value"]
    assert type(after) is type(alone)
    assert getattr(after, "dtype", None) == getattr(alone, "dtype", None)
    assert after == alone


@pytest.mark.parametrize("small", [0.1, torch.tensor(0.1)], ids=["number", "tensor"])
@each_window
def test_an_integer_first_does_not_make_later_floats_imprecise(window, small):
    total = logged([torch.tensor(0)] + [small] * 1000, reduce="sum", window=window).peek("value")
    assert np.asarray(total).dtype == np.float64
    assert float(total) == pytest.approx(1000 * float(small) * (1 if window is None else 0.5))


@pytest.mark.parametrize("reduce", ["sum", "max"])
@each_framework
@each_window
def test_a_float_first_does_not_make_later_integers_imprecise(window, to_array, reduce):
    values = [0.0, to_array(np.array(2**24 + 1)), 3_000_000_000]
    expected = {"sum": sum, "max": max}[reduce](map(float, values))
    result = float(logged(values, reduce=reduce, window=window).peek("value"))
    assert result == (pytest.approx(expected) if to_array is jnp.array else expected)


@each_window
def test_small_unsigned_integers_go_together_with_negative_numbers(window):
    for values in ([np.array(5, dtype=np.uint8), -1], [-1, jnp.uint8(5)]):
        assert float(logged(values, reduce="sum", window=window).peek("value")) == 4
        assert float(logged(values, reduce="max", window=window).peek("value")) == 5


def test_settings_may_be_numbers_of_numpy():
    values = torch.tensor([1.0, 2.0, 3.0])
    assert logged(values, window=np.int64(2)).peek("value") == 2.5
    assert logged(values, reduce="ema", ema_coeff=np.float32(0.5)).peek("value") == 2.25


@each_framework
def test_a_long_mean_does_not_drift(to_array):
    values = [to_array(np.array(0.1, dtype=np.float32))] * 20_000
    assert float(logged(values).peek("value")) == pytest.approx(0.1, rel=1e-6)


def test_a_sum_in_single_precision_keeps_what_cancels():
    assert logged(map(jnp.float32, (0.125, 1e8, -1e8)), reduce="sum").peek("value") == 0.125


@each_framework
@pytest.mark.parametrize("reduce", ["mean", "sum", "ema", "max"])
def test_complex_values_are_refused(to_array, reduce):
    value = to_array(np.array(1j, dtype=np.complex64))
    with pytest.raises(TypeError, match="expected real numbers, got"):
        logged([value], reduce=reduce)
    metrics = logged([to_array(np.array(1.0))], reduce=reduce)
    with pytest.raises(TypeError, match="expected real numbers, got"):
        metrics.log_value("value", value)
    assert float(metrics.peek("value")) == 1.0


def test_dates_are_refused_when_they_are_logged():
    with pytest.raises(TypeError, match="expected real numbers, got datetime64"):
        logged([np.datetime64("2026-01-01")], window=2)


@each_setting
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_logging_works_in_the_strictest_modes_of_jax(dtype, setting):
    value, nan = jnp.ones((), dtype), jnp.array(jnp.nan)
    with jax.transfer_guard("disallow"), jax.numpy_dtype_promotion("strict"), jax.debug_nans(True):
        assert float(logged([value] * 4, **setting).reduce()["value"]) in (1.0, 2.0, 4.0)
        logged([nan], **setting)


# torch


class Kernels(TorchDispatchMode):
    """Collects what would run on the device. These views run nothing."""

    views = "aten.detach", "aten.select", "aten.unsqueeze"

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not str(function).startswith(self.views):
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s["reduce"] != "ema"], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_a_later_value_takes_one_kernel(dtype, setting):
    loss = torch.ones((), dtype=dtype)
    metrics = logged([loss], **setting)
    with Kernels() as kernels:
        metrics.log_value("value", loss)
    assert len(kernels.names) == 1, kernels.names


class NoDouble(torch.Tensor):
    """Is refused in double precision, like a tensor on Apple's MPS."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return result


@pytest.mark.parametrize("setting", [{}, {"window": 2}, {"reduce": "ema", "ema_coeff": 0.5}])
def test_a_device_without_double_precision_uses_single(setting):
    values = [torch.tensor(value).as_subclass(NoDouble) for value in (True, False)]
    mean = logged(values, **setting).peek("value")
    assert mean.dtype == torch.float32
    assert float(mean) == 0.5


def test_logging_a_loss_does_not_keep_its_graph():
    metrics = MetricsLogger()
    in_graphs = []
    for setting in SETTINGS * 3:
        hidden = torch.ones(3, requires_grad=True) * 2
        in_graphs.append(weakref.ref(hidden))
        loss = hidden.square().sum()  # the square keeps `hidden`
        metrics.log_value(str(setting), loss, **setting)
    del hidden, loss
    gc.collect()

    assert not any(in_graph() is not None for in_graph in in_graphs)
    assert not any(value.requires_grad for value in metrics.reduce().values())


@each_setting
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_logging_and_reducing_never_wait_for_the_device(dtype, setting):
    # Tensors on the meta device have no data: whatever asks for it fails.
    values = [torch.zeros((), dtype=dtype, device="meta")] * 4
    for metrics in (logged(values, **setting), logged([1.0, *values], **setting)):
        assert metrics.peek("value").device.type == "meta"
        assert metrics.reduce()["value"].device.type == "meta"
