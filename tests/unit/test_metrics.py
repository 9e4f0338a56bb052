"""What becomes of logged values. The frameworks' own values are logged in tests/frameworks."""

import copy
import gc
import math
import pickle
import tracemalloc
from decimal import Decimal

import pytest

from self_supervised_loss import MetricsLogger


def test_the_mean_is_the_default():
    metrics = MetricsLogger()
    for value in (1.0, 2.0):
        metrics.log_value("loss", value)
        metrics.log_dict({"error": value})
    assert metrics.reduce() == {"loss": 1.5, "error": 1.5}


@pytest.mark.parametrize(
    ("reduce", "expected"), [("mean", 14_999.5), ("min", 10_000), ("item", 19_999)]
)
def test_a_long_window_holds_the_last_values(reduce, expected):
    metrics = MetricsLogger()
    for value in range(20_000):
        metrics.log_value("loss", value, reduce=reduce, window=10_000)
    assert metrics.reduce() == {"loss": expected}


def test_bools_are_counted():
    metrics = MetricsLogger()
    for solved in (True, True, False, True):
        metrics.log_value("success_rate", solved)
        metrics.log_value("successes", solved, reduce="sum")
    assert metrics.reduce() == {"success_rate": 0.75, "successes": 3}


def test_integers_stay_exact():
    metrics = MetricsLogger()
    for value in (2**53, 1):  # a float would take the sum for 2**53
        metrics.log_value("env_steps", value, reduce="sum")
    assert metrics.reduce() == {"env_steps": 2**53 + 1}


@pytest.mark.parametrize("reduce", ["mean", "min", "max", "sum", "ema"])
@pytest.mark.parametrize("position", range(3))
def test_nan_shows(reduce, position):
    values = [1.0, 2.0, 3.0]
    values[position] = math.nan
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("loss", value, reduce=reduce)
    assert math.isnan(metrics.peek("loss"))


@pytest.mark.parametrize(
    ("values", "mean"), [([4.0, math.inf, 1.0], math.inf), ([1e308, -1e308], 0.0)]
)
@pytest.mark.parametrize("window", [None, 5])
def test_the_mean_is_the_sum_by_the_number(values, mean, window):
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("loss", value, window=window)
    assert metrics.reduce() == {"loss": mean}


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
    reduced = metrics.reduce()
    assert metrics.reduce() == {}
    metrics.log_value("icm", 5.0)
    assert reduced == {"icm": {"loss": 1.0}}
    assert metrics.reduce() == {"icm": 5.0}


def test_a_moving_average_goes_on_across_reduce():
    metrics = MetricsLogger()
    reduced = []
    for values in ([1, 0], [0, 0], [0, 0], []):
        for value in values:
            metrics.log_value("success", value, reduce="ema", ema_coeff=0.5)
        reduced.append(metrics.reduce()["success"])
    assert reduced == [0.5, 0.125, 0.03125, 0.03125]


def test_a_new_value_has_a_hundredth_of_the_weight_in_a_moving_average_by_default():
    metrics = MetricsLogger()
    for value in (0.0, 1.0):
        metrics.log_value("loss", value, reduce="ema")
    assert metrics.peek("loss") == pytest.approx(0.01)


def test_reduce_with_a_separator_gives_one_flat_dict():
    metrics = MetricsLogger()
    metrics.log_dict({"forward_loss": 1.0, "grads": {"norm": 2.0}}, key="icm")
    metrics.log_value("steps", 3, reduce="ema")
    assert metrics.reduce(sep="/") == {"icm/forward_loss": 1.0, "icm/grads/norm": 2.0, "steps": 3}
    assert metrics.reduce(sep="/") == {"steps": 3}


# Settings


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ({"reduce": "sum"}, {}, 6),
        ({"reduce": "min"}, {}, 1),
        ({"window": 1}, {}, 3),
        ({"reduce": "ema", "ema_coeff": 0.5}, {}, 2.25),
        ({"reduce": "sum", "window": 2}, {"window": 2}, 5),
        ({"reduce": "ema", "ema_coeff": 1}, {"ema_coeff": 1}, 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["log_value", "log_dict"])
def test_settings_named_once_hold_for_the_key(method, first, then, expected):
    metrics = MetricsLogger()

    def log(value, **settings):
        if method == "log_value":
            metrics.log_value(("icm", "n"), value, **settings)
        else:
            metrics.log_dict({"icm": {"n": value}}, **settings)

    log(1, **first)
    log(2, **then)
    log(3)
    assert metrics.reduce() == {"icm": {"n": expected}}
    if "ema_coeff" not in first:  # which would go on
        for value in (1, 2, 3):
            log(value)
        assert metrics.reduce() == {"icm": {"n": expected}}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"reduce": "sum"}, 7), ({"window": 2}, 4), ({"reduce": "ema", "ema_coeff": 0.5}, 3.5)],
    ids=str,
)
@pytest.mark.parametrize("before", ["mean", "max", "ema"])
def test_after_a_reduce_a_key_may_start_afresh_with_other_settings(before, settings, expected):
    metrics = MetricsLogger()
    metrics.log_value("n", 100, reduce=before)
    metrics.reduce()
    metrics.log_value("n", 3, **{"reduce": "max"} | settings)
    metrics.log_value("n", 4)
    assert metrics.reduce() == {"n": expected}


@pytest.mark.parametrize("setting", [{"reduce": "sum"}, {"window": 3}], ids=str)
def test_other_settings_before_the_next_reduce_are_refused(setting):
    metrics = MetricsLogger()
    for expected in (1.5, 4.0):  # the same again after a reduce()
        metrics.log_value("loss", expected, window=2)
        with pytest.raises(ValueError) as raised:
            metrics.log_value("loss", 2.0, **setting)
        named = ", ".join(
            f"{name}={value!r}" for name, value in ({"reduce": "mean"} | setting).items()
        )
        assert str(raised.value) == (
            "('loss',) was logged with reduce='mean', window=2, "
            f"and cannot be logged with {named} before the next reduce()"
        )
        assert metrics.reduce() == {"loss": expected}


@pytest.mark.parametrize(
    "settings",
    [
        {"reduce": "median"},
        {"reduce": ""},
        {"window": 0},
        {"window": -3},
        {"window": 2.5},
        {"window": "2"},
        {"reduce": "ema", "window": 3},
        {"ema_coeff": 0.1},
        {"reduce": "ema", "ema_coeff": 0.0},
        {"reduce": "ema", "ema_coeff": 1.5},
        {"reduce": "ema", "ema_coeff": "0.1"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_answered_with_what_is_possible(settings):
    metrics = MetricsLogger()
    with pytest.raises(ValueError) as raised:
        metrics.log_value("loss", 1.0, **settings)
    named = ", ".join(
        f"{name}={value!r}" for name, value in ({"reduce": "mean"} | settings).items()
    )
    assert str(raised.value) == (
        f"('loss',) cannot be logged with {named}: "
        "reduce is one of ('mean', 'min', 'max', 'sum', 'ema', 'item'); "
        "'ema' takes an ema_coeff in (0, 1], the others a window from 1 on"
    )
    metrics.log_value("loss", 1.0, reduce="sum")  # was not settled by what was refused
    assert metrics.reduce() == {"loss": 1.0}


# Other bad input


@pytest.mark.parametrize("key", [3, None, (), ("icm", 3), ["icm", "loss"], b"loss"])
def test_keys_that_are_no_strings_are_refused(key):
    metrics = MetricsLogger()
    for call in (
        lambda: metrics.log_value(key, 1.0),
        lambda: metrics.log_dict({key if key.__hash__ else 3: 2.0}),
        lambda: metrics.peek(key),
    ):
        with pytest.raises(
            TypeError, match="key of a metric is a string or a tuple of strings, not"
        ):
            call()
    assert metrics.reduce() == {}


def test_a_key_is_not_both_a_value_and_a_dict():
    metrics = MetricsLogger()
    metrics.log_value(("icm", "loss"), 1.0)
    for key in ("icm", ("icm", "loss", "x"), ("icm", "loss", "x", "y")):
        with pytest.raises(ValueError) as raised:
            metrics.log_value(key, 2.0)
        path = key if isinstance(key, tuple) else (key,)
        assert str(raised.value) == (
            f"cannot log {path} beside ('icm', 'loss'): a key is either a value or a dict"
        )
    metrics.log_value("averages", 1.0, reduce="ema")
    metrics.log_value(("more", "averages"), 1.0, reduce="ema")
    assert metrics.reduce()["icm"] == {"loss": 1.0}
    for key in ("more", ("averages", "x")):  # moving averages are still there
        with pytest.raises(ValueError, match=r"beside .*'averages',?"):
            metrics.log_value(key, 2.0)


@pytest.mark.parametrize("value", [None, {"loss": 1.0}, "high", b"high", [1.0], (1.0,)])
def test_what_is_no_number_is_refused_with_its_key(value):
    metrics = MetricsLogger()
    with pytest.raises(TypeError, match=r"of \('icm', 'loss'\) is not a number, an array or a ten"):
        metrics.log_value(("icm", "loss"), value, reduce="sum")
    for number in (1.0, 2.0):  # neither its settings nor its place were taken
        metrics.log_value(("icm", "loss"), number)
    assert metrics.reduce() == {"icm": {"loss": 1.5}}
    with pytest.raises(TypeError):
        metrics.log_value(("icm", "loss"), value)
    metrics.log_value("icm", 1.0)
    assert metrics.reduce() == {"icm": 1.0}


@pytest.mark.parametrize("bad", ["high", None, {"worse": "high"}])
def test_what_a_dict_has_before_a_value_that_is_refused_is_logged(bad):
    metrics = MetricsLogger()
    with pytest.raises(TypeError, match=r"of \('icm', 'bad'.* is not a number"):
        metrics.log_dict({"before": 1.0, "bad": bad, "after": 2.0}, key="icm")
    assert metrics.reduce() == {"icm": {"before": 1.0}}


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_a_value_that_does_not_go_with_those_before_it_is_refused_with_its_key(reduce, window):
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0, reduce=reduce, window=window)
    metrics.log_value("steps", 1)
    with pytest.raises(TypeError, match=r"of \('loss',\) does not go with those before it"):
        metrics.log_value("loss", Decimal(1))
    metrics.log_value("loss", 1.0)
    assert metrics.reduce() == {"loss": 1.0 if reduce == "mean" else 2.0, "steps": 1}


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


def test_peek_of_a_key_never_logged_lists_the_keys_there_are():
    metrics = MetricsLogger()
    metrics.log_value("steps", 1)
    metrics.log_dict({"forward_loss": 2.0}, key="icm")
    for key in (("loss",), ("icm", "loss"), ("steps", "loss")):
        with pytest.raises(KeyError) as raised:
            metrics.peek(key)
        assert raised.value.args == (
            f"nothing was logged under {key} since the last reduce(), "
            "only under [('steps',), ('icm', 'forward_loss')]",
        )


# Copies, memory and time


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


def test_memory_does_not_grow_with_the_number_of_values():
    def log(times):
        for step in range(times):
            for reduce in ("mean", "min", "max", "sum", "ema", "item"):
                metrics.log_value(reduce, float(step), reduce=reduce)
            metrics.log_value("window", float(step), window=10)
            if step % 1000 == 0:
                metrics.reduce()

    metrics = MetricsLogger()
    log(times=100)
    tracemalloc.start()
    log(times=5_000)
    gc.collect()  # empties CPython's free lists
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 10_000  # bytes; 5,000 floats in one list alone are 160,000


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
