"""How the metrics logger reduces numbers. tests/frameworks logs the arrays of frameworks."""

import copy
import math
import pickle
import statistics
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_supervised_loss import MetricsLogger
from self_supervised_loss._metrics.records import new_record
from self_supervised_loss._metrics.settings import Settings


def reduced(values, **settings):
    """Returns the result of some values, with the settings named in the first call."""
    metrics = MetricsLogger()
    metrics.log_value("value", values[0], **settings)
    for value in values[1:]:
        metrics.log_value("value", value)
    return metrics.reduce()["value"]


NUMBERS = (
    st.floats(-1e6, 1e6)
    | st.integers(-(10**6), 10**6)
    | st.booleans()
    | st.fractions(-99, 99, max_denominator=10)
    | st.decimals(-99, 99, places=1)
)
REDUCTIONS = {
    None: statistics.fmean,
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "sum": math.fsum,
    "item": lambda values: values[-1],
}


@pytest.mark.parametrize("reduce", REDUCTIONS)
@given(
    cycles=st.lists(st.lists(NUMBERS, min_size=1, max_size=10), min_size=1, max_size=2),
    window=st.none() | st.integers(1, 12),
)
def test_each_cycle_is_reduced_like_in_the_standard_library(reduce, cycles, window):
    metrics = MetricsLogger()
    for values in cycles:
        for value in values:
            metrics.log_value("value", value, reduce=reduce, window=window)
        last_values = values if window is None else values[-window:]
        expected = pytest.approx(float(REDUCTIONS[reduce](last_values)), abs=1e-6)
        assert float(metrics.reduce()["value"]) == expected
    assert metrics.reduce() == {}


@pytest.mark.parametrize(
    "values", [(math.nan, 1, 2), (1, Decimal("nan"), 2), (1, 2, math.nan)], ids=str
)
@pytest.mark.parametrize("reduce", ["mean", "min", "max", "sum", "ema"])
def test_nan_is_not_skipped(reduce, values):
    assert math.isnan(reduced(values, reduce=reduce))


@pytest.mark.parametrize(
    ("reduce", "values", "expected"),
    [
        ("mean", [4.0, math.inf, 1.0], math.inf),
        ("mean", [1e308, -1e308], 0.0),
        ("sum", [2**53, 1], 2**53 + 1),  # as a float it is 2**53
        ("max", [1, 2**70], 2.0**70),
    ],
)
def test_numbers_at_the_limits_of_floats_are_reduced(reduce, values, expected):
    assert reduced(values, reduce=reduce) == expected


@pytest.mark.parametrize("window", [None, 2])
def test_a_result_of_booleans_is_a_number(window):
    assert repr(reduced([True], reduce="sum", window=window)) == "1"
    assert repr(reduced([True], reduce="mean", window=window)) == "1.0"
    assert reduced([2**64 + 1], reduce="item") == 2**64 + 1


def test_tuple_keys_and_dicts_nest():
    metrics = MetricsLogger()
    metrics.log_value("steps", 1)
    metrics.log_value(("icm", "forward_loss"), 2)
    metrics.log_dict({"inverse_loss": 3, "grads": {"norm": 4}}, key="icm")
    metrics.log_dict({"loss": 5}, key=("policy", "ppo"))
    metrics.log_dict({"icm": {"lr": 6}})
    icm = {"forward_loss": 2, "inverse_loss": 3, "grads": {"norm": 4}, "lr": 6}
    assert metrics.peek("steps") == 1
    assert metrics.peek(("icm", "grads", "norm")) == 4
    assert metrics.peek("icm") == icm
    assert metrics.reduce() == {"steps": 1, "icm": icm, "policy": {"ppo": {"loss": 5}}}


# From one reduce() to the next


def test_a_moving_average_starts_at_the_first_value_and_outlives_reduce():
    metrics = MetricsLogger()
    averages = []
    for values in ([1, 0], [0, 8], []):
        for value in values:
            metrics.log_value("success", value, reduce="ema", ema_coeff=0.25)
        averages.append(metrics.reduce()["success"])
    assert averages == [0.75, 2.421875, 2.421875]


def test_a_key_with_default_settings_is_forgotten_after_an_unused_cycle():
    metrics = MetricsLogger()
    metrics.log_value(("icm", "default"), 1.0)
    metrics.log_value(("icm", "named"), 1.0, reduce="sum")
    metrics.reduce()
    with pytest.raises(ValueError, match="expected reduce='mean'"):
        metrics.log_value(("icm", "default"), 2.0, window=5)
    metrics.reduce()
    metrics.log_value(("icm", "default"), 2.0, window=5)  # may be created anew
    with pytest.raises(ValueError, match="expected reduce='sum'"):
        metrics.log_value(("icm", "named"), 2.0, reduce="max")
    assert metrics.reduce() == {"icm": {"default": 2.0}}


def test_a_cleared_key_may_become_a_dict_and_back():
    metrics = MetricsLogger()
    for key in ("icm", ("icm", "loss", "forward"), ("icm", "loss"), "icm"):
        metrics.log_value(key, 1.0, reduce="max")
        metrics.reduce()
    metrics.log_value("icm", 2.0)
    assert metrics.reduce() == {"icm": 2.0}


# Settings


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        ({"reduce": "sum"}, {}, 9),
        ({"reduce": "sum", "window": 2}, {"window": 2}, 7),
        ({"window": 2}, {"reduce": "mean"}, 3.5),
        ({"reduce": "ema", "ema_coeff": 0.5}, {}, 3.125),
        ({"reduce": "ema", "ema_coeff": 1}, {}, 4),
        ({"reduce": "ema"}, {"ema_coeff": 0.01}, 1.059601),
    ],
    ids=str,
)
def test_later_calls_may_repeat_or_omit_settings(first, later, expected):
    metrics = MetricsLogger()
    metrics.log_dict({"icm": {"n": 1}}, **first)
    metrics.reduce()
    metrics.log_dict({"n": 2}, key="icm", **later)
    for value in (3, 4):
        metrics.log_value(("icm", "n"), value)
    assert metrics.reduce()["icm"]["n"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"reduce": "sum"}, "reduce='sum'"),
        ({"window": 3}, "window=3"),
        ({"reduce": "sum", "window": 2}, "reduce='sum', window=2"),
        ({"ema_coeff": 0.1}, "ema_coeff=0.1"),
    ],
)
def test_a_call_that_names_other_settings_is_refused(other, named):
    metrics = MetricsLogger()
    for value in (1.5, 4.0):  # also after a reduce()
        metrics.log_value("loss", value, window=2)
        with pytest.raises(ValueError) as raised:
            metrics.log_value("loss", 2.0, **other)
        assert str(raised.value) == (
            "cannot log 'loss': expected reduce='mean', window=2 "
            f"as in the call that created the key, got {named}"
        )
        assert metrics.reduce() == {"loss": value}


@pytest.mark.parametrize(
    "settings",
    [
        {"reduce": "median"},
        {"reduce": ""},
        {"reduce": ["mean"]},
        {"window": 0},
        {"window": 2.5},
        {"reduce": "ema", "window": 3},
        {"ema_coeff": 0.1},
        {"reduce": "ema", "ema_coeff": 0.0},
        {"reduce": "ema", "ema_coeff": 1.5},
        {"reduce": "ema", "ema_coeff": math.nan},
        {"reduce": "ema", "ema_coeff": "0.1"},
    ],
    ids=str,
)
def test_invalid_settings_are_refused_and_create_no_key(settings):
    metrics = MetricsLogger()
    with pytest.raises(ValueError) as raised:
        metrics.log_value("loss", 1.0, **settings)
    assert str(raised.value).startswith("cannot log 'loss': invalid settings reduce=")
    assert str(raised.value).endswith(
        ": reduce must be one of ('mean', 'min', 'max', 'sum', 'ema', 'item'), "
        "window at least 1, and ema_coeff, for reduce='ema' only, in (0, 1]"
    )
    metrics.log_value("loss", 1.0, reduce="sum")
    assert metrics.reduce() == {"loss": 1.0}


# Other bad input


@pytest.mark.parametrize("key", [3, (), ("icm", 3), ["icm", "loss"]], ids=str)
def test_keys_must_be_strings_or_tuples_of_strings(key):
    metrics = MetricsLogger()
    message = "key must be a string or a tuple of strings, got"
    with pytest.raises(TypeError, match=message):
        metrics.log_value(key, 1.0)
    with pytest.raises(TypeError, match=message):
        metrics.log_dict({3: 1.0})
    with pytest.raises(TypeError, match=message):
        metrics.peek(key)


@pytest.mark.parametrize(
    ("existing", "key"),
    [
        (("icm", "loss"), "icm"),
        ("icm", ("icm", "loss")),
        (("icm", "loss"), ("icm", "loss", "x", "y")),
    ],
)
@pytest.mark.parametrize("reduce", ["mean", "ema"])
def test_a_key_is_either_a_value_or_a_dict(reduce, existing, key):
    metrics = MetricsLogger()
    metrics.log_value(existing, 1.0, reduce=reduce)
    if reduce == "ema":
        metrics.reduce()  # keeps the moving average
    with pytest.raises(ValueError) as raised:
        metrics.log_value(key, 2.0)
    assert str(raised.value) == (
        f"cannot log {key!r}: a key is either a value or a dict, and {existing!r} exists"
    )
    assert metrics.peek(existing) == 1.0


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "expected a number, an array or a tensor, got NoneType"),
        ([1.0], "expected a number, an array or a tensor, got list"),
        (10**400, "int too large"),
        (1j, ".* not 'complex'"),
    ],
    ids=["None", "list", "too large", "complex"],
)
def test_a_value_that_cannot_be_averaged_is_refused_and_changes_nothing(value, fault, window):
    metrics = MetricsLogger()
    for number, settings in [(1.0, {"reduce": "ema"}), (2.0, {})]:  # as the first value, and later
        with pytest.raises(TypeError, match=rf"cannot log \('icm', 'loss'\): {fault}"):
            metrics.log_dict({"before": 1.0, "loss": value, "after": 4.0}, key="icm", **settings)
        metrics.log_value(("icm", "loss"), number, window=window)
    assert metrics.reduce() == {"icm": {"before": 1.0, "loss": 1.5}}


def test_a_key_that_cannot_be_reduced_is_named_and_loses_no_other_key():
    metrics = MetricsLogger()
    metrics.log_value("before", 1)
    dtype = SimpleNamespace(kind="f", itemsize=8, name="float64")
    array = SimpleNamespace(shape=(), dtype=dtype, astype=None, copy=lambda: array)  # without "+"
    metrics.log_dict({"odd": array}, key="icm", reduce="sum", window=2)
    metrics.log_dict({"odd": array}, key="icm")
    metrics.log_value("after", 2, reduce="sum")
    message = r"cannot reduce the values of \('icm', 'odd'\): unsupported operand"
    with pytest.raises(TypeError, match=message):
        metrics.peek("icm")
    with pytest.raises(TypeError, match=message):
        metrics.reduce()
    assert metrics.reduce() == {"before": 1, "after": 2}


def test_a_separator_flattens_the_result_and_must_keep_keys_apart():
    metrics = MetricsLogger()
    metrics.log_value(("a", "b/c"), 1.0)
    metrics.log_value(("a/b", "c"), 2.0)
    metrics.log_value("d", 3.0)
    with pytest.raises(ValueError, match=r"one with sep='/': \[\('a', 'b/c'\), \('a/b', 'c'\)\]"):
        metrics.reduce(sep="/")
    assert metrics.reduce(sep=".") == {"a.b/c": 1.0, "a/b.c": 2.0, "d": 3.0}


@pytest.mark.parametrize("key", ["loss", ("icm", "loss"), ("steps", "loss"), "cleared"])
def test_peek_of_an_unknown_key_lists_the_known_keys(key):
    metrics = MetricsLogger()
    metrics.log_value("cleared", 1.0)
    metrics.reduce()
    metrics.log_dict({"steps": 1, "icm": {"forward_loss": 2.0}})
    with pytest.raises(KeyError) as raised:
        metrics.peek(key)
    assert raised.value.args == (
        f"nothing is logged as {key!r}, only as ['steps', ('icm', 'forward_loss')]",
    )


# Objects


@pytest.mark.parametrize(
    ("reduce", "window"), [(reduce, None) for reduce in (*REDUCTIONS, "ema")] + [("mean", 2)]
)
def test_a_record_has_no_dict_that_a_compiled_step_would_check(reduce, window):
    record = new_record(Settings.create(reduce, window, None))
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda metrics: pickle.loads(pickle.dumps(metrics))]
)
def test_a_copy_is_independent(duplicate):
    metrics = MetricsLogger()
    metrics.log_value("mean", 1.0)
    metrics.log_value("window", 1.0, window=2)
    twin = duplicate(metrics)
    twin.log_dict({"mean": 3.0, "window": 3.0})
    assert twin.reduce() == {"mean": 2.0, "window": 2.0}
    assert metrics.reduce() == {"mean": 1.0, "window": 1.0}
