"""What becomes of logged values. The frameworks' own values are logged in tests/frameworks."""

import copy
import math
import pickle
import re
from decimal import Decimal

import pytest

from self_supervised_loss import MetricsLogger


def reduced(values, **settings):
    """Returns what the values come to, if the settings are named with the first one alone."""
    metrics = MetricsLogger()
    metrics.log_value("value", values[0], **settings)
    for value in values[1:]:
        metrics.log_value("value", value)
    return metrics.reduce()["value"]


def test_the_mean_is_the_default():
    metrics = MetricsLogger()
    for value in (1.0, 2.0):
        metrics.log_value("loss", value)
        metrics.log_dict({"error": value})
    assert metrics.reduce() == {"loss": 1.5, "error": 1.5}


@pytest.mark.parametrize("values", [(math.nan, 1, 2), (1, math.nan, 2), (1, 2, math.nan)])
@pytest.mark.parametrize("reduce", ["mean", "min", "max", "sum", "ema"])
def test_nan_shows(reduce, values):
    assert math.isnan(reduced(values, reduce=reduce))


@pytest.mark.parametrize(
    ("reduce", "values", "expected"),
    [
        ("mean", [4.0, math.inf, 1.0], math.inf),
        ("mean", [1e308, -1e308], 0.0),
        ("sum", [2**53, 1], 2**53 + 1),  # a float would take it for 2**53
    ],
)
def test_numbers_at_the_limits_of_floats_are_reduced_like_any(reduce, values, expected):
    assert reduced(values, reduce=reduce) == expected


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


def test_peek_changes_nothing_and_reduce_takes_everything_out():
    metrics = MetricsLogger()
    metrics.log_value(("icm", "loss"), 1.0)
    assert metrics.peek(("icm", "loss")) == metrics.peek(("icm", "loss")) == 1.0
    taken_out = metrics.reduce()
    assert metrics.reduce() == {}
    metrics.log_value("icm", 5.0)
    assert taken_out == {"icm": {"loss": 1.0}}
    assert metrics.reduce() == {"icm": 5.0}


def test_a_moving_average_starts_at_the_first_value_and_goes_on_across_reduce():
    metrics = MetricsLogger()
    averages = []
    for values in ([1, 0], [0, 8], []):
        for value in values:
            metrics.log_value("success", value, reduce="ema", ema_coeff=0.25)
        averages.append(metrics.reduce()["success"])
    assert averages == [0.75, 2.421875, 2.421875]


def test_a_new_value_has_a_hundredth_of_the_weight_in_a_moving_average_by_default():
    assert reduced([0.0, 1.0], reduce="ema") == pytest.approx(0.01)


def test_reduce_with_a_separator_gives_one_flat_dict():
    metrics = MetricsLogger()
    metrics.log_dict({"forward_loss": 1.0, "grads": {"norm": 2.0}}, key="icm")
    metrics.log_value("steps", 3, reduce="ema")
    assert metrics.reduce(sep="/") == {"icm/forward_loss": 1.0, "icm/grads/norm": 2.0, "steps": 3}
    assert metrics.reduce(sep="/") == {"steps": 3}


# Settings


def log_as_value(metrics, value, **settings):
    metrics.log_value(("icm", "n"), value, **settings)


def log_in_nested_dict(metrics, value, **settings):
    metrics.log_dict({"icm": {"n": value}}, **settings)


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ({"reduce": "sum"}, {}, 9),
        ({"reduce": "min"}, {}, 2),
        ({"window": 1}, {}, 4),
        ({"reduce": "ema", "ema_coeff": 0.5}, {}, 3.125),
        ({"reduce": "sum", "window": 2}, {"window": 2}, 7),
        ({"reduce": "ema", "ema_coeff": 1}, {"ema_coeff": 1}, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("log", [log_as_value, log_in_nested_dict])
def test_settings_named_once_hold_for_the_key_also_across_reduce(log, first, then, expected):
    metrics = MetricsLogger()
    log(metrics, 1, **first)
    metrics.reduce()
    log(metrics, 2, **then)
    for value in (3, 4):
        log(metrics, value)
    assert metrics.reduce() == {"icm": {"n": expected}}


@pytest.mark.parametrize(
    ("before", "settings", "expected"),
    [
        ({"reduce": "max"}, {"reduce": "ema", "ema_coeff": 0.5}, 3.25),
        ({"reduce": "max", "window": 2}, {"reduce": "sum"}, 9),
        ({"reduce": "min"}, {"window": 2}, 3),
        ({"reduce": "ema"}, {"reduce": "sum"}, 9),
        ({"reduce": "ema"}, {"ema_coeff": 1}, 4),
    ],
    ids=str,
)
def test_after_a_reduce_a_key_may_start_afresh_with_other_settings(before, settings, expected):
    metrics = MetricsLogger()
    metrics.log_value("n", 100, **before)
    metrics.reduce()
    metrics.log_value("n", 2, **settings)
    for value in (3, 4):
        metrics.log_value("n", value)
    assert metrics.reduce() == {"n": expected}


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"reduce": "sum"}, "reduce='sum'"), ({"window": 3}, "reduce='mean', window=3")],
)
def test_other_settings_before_the_next_reduce_are_refused(settings, named):
    metrics = MetricsLogger()
    for value in (1.5, 4.0):  # the same again after a reduce()
        metrics.log_value("loss", value, window=2)
        with pytest.raises(ValueError) as raised:
            metrics.log_value("loss", 2.0, **settings)
        assert str(raised.value) == (
            "('loss',) was logged with reduce='mean', window=2, "
            f"and cannot be logged with {named} before the next reduce()"
        )
        assert metrics.reduce() == {"loss": value}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"reduce": "median"}, "reduce='median'"),
        ({"reduce": ""}, "reduce=''"),
        ({"reduce": ["mean"]}, "reduce=['mean']"),
        ({"window": 0}, "reduce='mean', window=0"),
        ({"window": 2.5}, "reduce='mean', window=2.5"),
        ({"reduce": "ema", "window": 3}, "reduce='ema', window=3"),
        ({"ema_coeff": 0.1}, "reduce='mean', ema_coeff=0.1"),
        ({"reduce": "ema", "ema_coeff": 0.0}, "reduce='ema', ema_coeff=0.0"),
        ({"reduce": "ema", "ema_coeff": 1.5}, "reduce='ema', ema_coeff=1.5"),
        ({"reduce": "ema", "ema_coeff": math.nan}, "reduce='ema', ema_coeff=nan"),
        ({"reduce": "ema", "ema_coeff": "0.1"}, "reduce='ema', ema_coeff='0.1'"),
    ],
)
def test_settings_that_make_no_sense_are_answered_with_what_is_possible(settings, named):
    metrics = MetricsLogger()
    with pytest.raises(ValueError) as raised:
        metrics.log_value("loss", 1.0, **settings)
    assert str(raised.value) == (
        f"('loss',) cannot be logged with {named}: "
        "reduce is one of ('mean', 'min', 'max', 'sum', 'ema', 'item'); "
        "'ema' takes an ema_coeff in (0, 1], the others a window from 1 on"
    )
    metrics.log_value("loss", 1.0, reduce="sum")  # was not settled by what was refused
    assert metrics.reduce() == {"loss": 1.0}


# Other bad input


@pytest.mark.parametrize("key", [3, (), ("icm", 3), ["icm", "loss"]])
def test_keys_that_are_no_strings_are_refused(key):
    metrics = MetricsLogger()
    for call in (
        lambda: metrics.log_value(key, 1.0),
        lambda: metrics.log_dict({3: 1.0}),
        lambda: metrics.peek(key),
    ):
        with pytest.raises(
            TypeError, match="key of a metric is a string or a tuple of strings, not"
        ):
            call()
    assert metrics.reduce() == {}


@pytest.mark.parametrize(
    ("there", "key"),
    [
        (("icm", "loss"), ("icm",)),
        (("icm",), ("icm", "loss")),
        (("icm", "loss"), ("icm", "loss", "x", "y")),
    ],
)
@pytest.mark.parametrize("reduce", ["mean", "ema"])
def test_a_key_is_not_both_a_value_and_a_dict(reduce, there, key):
    metrics = MetricsLogger()
    metrics.log_value(there, 1.0, reduce=reduce)
    if reduce == "ema":
        metrics.reduce()  # a moving average is still there
    with pytest.raises(ValueError) as raised:
        metrics.log_value(key, 2.0)
    assert str(raised.value) == (
        f"cannot log {key} beside {there}: a key is either a value or a dict"
    )
    assert metrics.peek(there) == 1.0


@pytest.mark.parametrize("value", [None, {"loss": 1.0}, "high", [1.0]])
def test_what_is_no_number_is_refused_with_its_key(value):
    metrics = MetricsLogger()
    fault = f"the value {value!r} of ('icm', 'loss') is not a number, an array or a tensor"
    with pytest.raises(TypeError, match=re.escape(fault)):
        metrics.log_value(("icm", "loss"), value, reduce="sum")
    for number in (1.0, 2.0):  # neither its settings nor its place were taken
        metrics.log_value(("icm", "loss"), number)
    assert metrics.reduce() == {"icm": {"loss": 1.5}}
    with pytest.raises(TypeError):
        metrics.log_value(("icm", "loss"), value)
    metrics.log_value("icm", 1.0)
    assert metrics.reduce() == {"icm": 1.0}


def test_what_a_dict_has_before_a_value_that_is_refused_is_logged():
    metrics = MetricsLogger()
    with pytest.raises(TypeError, match=r"of \('icm', 'nested', 'bad'\) is not a number"):
        metrics.log_dict({"before": 1.0, "nested": {"bad": "high"}, "after": 2.0}, key="icm")
    assert metrics.reduce() == {"icm": {"before": 1.0}}


@pytest.mark.parametrize("window", [None, 2])
def test_a_value_that_does_not_go_with_those_before_it_is_refused_with_its_key(window):
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0, window=window)
    metrics.log_value("steps", 1)
    with pytest.raises(TypeError, match=r"of \('loss',\) does not go with those before it"):
        metrics.log_value("loss", Decimal(1))
    metrics.log_value("loss", 2.0)
    assert metrics.reduce() == {"loss": 1.5, "steps": 1}


def test_values_that_cannot_be_reduced_are_named_and_lose_no_other_key():
    metrics = MetricsLogger()
    metrics.log_value("before", 1)
    metrics.log_value(("icm", "large"), 10**400)  # its mean would be too large a float
    metrics.log_value("after", 2, reduce="sum")
    fault = r"the values of \('icm', 'large'\) cannot be reduced: .* too large"
    with pytest.raises(TypeError, match=fault):
        metrics.peek("icm")
    with pytest.raises(TypeError, match=fault):
        metrics.reduce()
    assert metrics.reduce() == {"before": 1, "after": 2}


def test_two_keys_of_one_name_are_refused_and_not_lost():
    metrics = MetricsLogger()
    metrics.log_value(("a", "b/c"), 1.0)
    metrics.log_value(("a/b", "c"), 2.0)
    with pytest.raises(
        ValueError, match=r"the same with sep='/': \[\('a', 'b/c'\), \('a/b', 'c'\)\]"
    ):
        metrics.reduce(sep="/")
    assert metrics.reduce(sep=".") == {"a.b/c": 1.0, "a/b.c": 2.0}


@pytest.mark.parametrize("key", [("loss",), ("icm", "loss"), ("steps", "loss")])
def test_peek_of_a_key_never_logged_lists_the_keys_there_are(key):
    metrics = MetricsLogger()
    metrics.log_dict({"steps": 1, "icm": {"forward_loss": 2.0}})
    with pytest.raises(KeyError) as raised:
        metrics.peek(key)
    assert raised.value.args == (
        f"nothing was logged under {key} since the last reduce(), "
        "only under [('steps',), ('icm', 'forward_loss')]",
    )


# Copies and time


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda metrics: pickle.loads(pickle.dumps(metrics))]
)
def test_a_copy_goes_on_by_itself(duplicate):
    metrics = MetricsLogger()
    metrics.log_value("mean", 1.0)
    metrics.log_value("window", 1.0, window=2)
    twin = duplicate(metrics)
    twin.log_dict({"mean": 3.0, "window": 3.0})
    assert twin.reduce() == {"mean": 2.0, "window": 2.0}
    assert metrics.reduce() == {"mean": 1.0, "window": 1.0}


def test_a_key_is_compared_with_no_other_however_many_there_are():
    class Name(str):
        def __eq__(self, other):
            comparisons.append(str.__eq__(self, other))
            return comparisons[-1]

        __hash__ = str.__hash__

    comparisons = []
    metrics = MetricsLogger()
    for _ in range(2):
        for number in range(3_000):
            metrics.log_value((Name(f"module_{number % 100}"), Name(f"loss_{number}")), 1.0)
        metrics.reduce()
    assert comparisons.count(False) < 3_000  # one for each pair would be millions
