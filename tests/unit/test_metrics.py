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
    metrics.log_value("loss", 1.0)
    metrics.log_value("loss", 2.0)
    metrics.log_dict({"error": 1.0})
    metrics.log_dict({"error": 2.0})
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


@pytest.mark.parametrize("setting", [{"window": 1}, {"reduce": "ema", "ema_coeff": 1}])
def test_as_little_as_the_last_value_may_count(setting):
    metrics = MetricsLogger()
    for value in (1.0, 2.0):
        metrics.log_value("loss", value, **setting)
    assert metrics.reduce() == {"loss": 2.0}


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
def test_the_mean_is_the_sum_by_the_number(values, mean):
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("loss", value)
        metrics.log_value("recent", value, window=5)
    assert metrics.reduce() == {"loss": mean, "recent": mean}


def test_tuple_keys_and_dicts_nest():
    metrics = MetricsLogger()
    metrics.log_value("steps", 1)
    metrics.log_value(("icm", "forward_loss"), 2)
    metrics.log_dict({"inverse_loss": 3, "grads": {"norm": 4}}, key="icm")
    metrics.log_dict({"loss": 5}, key=("policy", "ppo"))
    metrics.log_dict({"icm": {"lr": 6}})
    assert metrics.peek("steps") == 1
    assert metrics.peek(("icm", "grads", "norm")) == 4
    assert metrics.peek("icm") == {
        "forward_loss": 2,
        "inverse_loss": 3,
        "grads": {"norm": 4},
        "lr": 6,
    }
    assert metrics.reduce() == {
        "steps": 1,
        "icm": {"forward_loss": 2, "inverse_loss": 3, "grads": {"norm": 4}, "lr": 6},
        "policy": {"ppo": {"loss": 5}},
    }


def test_a_dict_is_logged_with_the_settings_of_a_value():
    metrics = MetricsLogger()
    for value in (1, 2, 3):
        metrics.log_dict({"window": value}, window=2)
        metrics.log_dict({"ema": value}, reduce="ema", ema_coeff=0.5)
    assert metrics.reduce() == {"window": 2.5, "ema": 2.25}


def test_peek_changes_nothing_and_reduce_takes_everything_out():
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0)
    assert metrics.peek("loss") == metrics.peek("loss") == 1.0
    assert metrics.reduce() == {"loss": 1.0}
    assert metrics.reduce() == {}
    metrics.log_value("loss", 5.0, reduce="sum")
    assert metrics.reduce() == {"loss": 5.0}


def test_a_moving_average_goes_on_across_reduce():
    metrics = MetricsLogger()
    reduced = []
    for values in ([1, 0], [0, 0], [0, 0], []):
        for value in values:
            metrics.log_value("success", value, reduce="ema", ema_coeff=0.5)
        reduced.append(metrics.reduce())
    assert reduced == [
        {"success": 0.5},
        {"success": 0.125},
        {"success": 0.03125},
        {"success": 0.03125},
    ]


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


def test_two_keys_of_one_name_are_refused_and_not_lost():
    metrics = MetricsLogger()
    metrics.log_value(("a", "b/c"), 1.0)
    metrics.log_value(("a/b", "c"), 2.0)
    with pytest.raises(
        ValueError, match=r"the same with sep='/': \[\('a', 'b/c'\), \('a/b', 'c'\)\]"
    ):
        metrics.reduce(sep="/")
    assert metrics.reduce(sep=".") == {"a.b/c": 1.0, "a/b.c": 2.0}


def test_what_reduce_returned_is_not_changed_later():
    metrics = MetricsLogger()
    metrics.log_value(("icm", "loss"), 1.0)
    reduced = metrics.reduce()
    metrics.log_value(("icm", "loss"), 5.0)
    metrics.log_value(("icm", "error"), 5.0)
    assert reduced == {"icm": {"loss": 1.0}}


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda metrics: pickle.loads(pickle.dumps(metrics))]
)
def test_a_copy_goes_on_by_itself(duplicate):
    metrics = MetricsLogger()
    metrics.log_dict({"mean": 1.0}, key="icm")
    metrics.log_dict({"window": 1.0}, key="icm", window=2)
    twin = duplicate(metrics)
    twin.log_dict({"mean": 3.0}, key="icm")
    twin.log_dict({"window": 3.0}, key="icm", window=2)
    assert twin.reduce() == {"icm": {"mean": 2.0, "window": 2.0}}
    assert metrics.reduce() == {"icm": {"mean": 1.0, "window": 1.0}}


def test_memory_does_not_grow_with_the_number_of_values():
    def log(times):
        for step in range(times):
            for reduce in ("mean", "min", "max", "sum", "ema", "item"):
                metrics.log_value(reduce, float(step), reduce=reduce)
            metrics.log_value("window", float(step), window=10)

    metrics = MetricsLogger()
    log(times=100)
    tracemalloc.start()
    log(times=5_000)
    gc.collect()  # empties CPython's free lists
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 10_000  # bytes; 5,000 floats in one list alone are 160,000


# Bad input


@pytest.mark.parametrize(
    "settings",
    [
        {"reduce": "median"},
        {"reduce": None},
        {"window": 0},
        {"window": -3},
        {"window": 2.5},
        {"reduce": "ema", "window": 3},
        {"ema_coeff": 0.1},
        {"reduce": "ema", "ema_coeff": 0.0},
        {"reduce": "ema", "ema_coeff": 1.5},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_answered_with_what_is_possible(settings):
    metrics = MetricsLogger()
    for log in (
        lambda: metrics.log_value("loss", 1.0, **settings),
        lambda: metrics.log_dict({"loss": 1}, **settings),
    ):
        with pytest.raises(ValueError) as raised:
            log()
        given = tuple({"reduce": "mean", "window": None, "ema_coeff": None, **settings}.values())
        assert f"cannot be logged with {given}, as (reduce, window, ema_coeff)" in str(raised.value)
        assert "reduce is one of ('mean', 'min', 'max', 'sum', 'ema', 'item');" in str(raised.value)
        assert "'ema' takes an ema_coeff in (0, 1], the others a window from 1 on" in str(
            raised.value
        )
    assert metrics.reduce() == {}


@pytest.mark.parametrize("key", [3, None, (), ("icm", 3), ["icm", "loss"], b"loss"])
def test_keys_that_are_no_strings_are_refused(key):
    metrics = MetricsLogger()
    message = "the key of a metric is a string or a tuple of strings, not "
    with pytest.raises(TypeError, match=message):
        metrics.log_value(key, 1.0)
    with pytest.raises(TypeError, match=message):
        metrics.log_dict({"loss": 1.0, key if key.__hash__ else 3: 2.0})
    with pytest.raises(TypeError, match=message):
        metrics.peek(key)
    assert metrics.reduce() == {}


def test_a_key_keeps_its_settings():
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0)
    with pytest.raises(
        ValueError, match=r"\('loss',\) takes \('mean', None, None\), not \('sum', None, None\)"
    ):
        metrics.log_value("loss", 2.0, reduce="sum")
    assert metrics.reduce() == {"loss": 1.0}


def test_a_key_is_not_both_a_value_and_a_dict():
    metrics = MetricsLogger()
    metrics.log_value(("icm", "loss"), 1.0)
    for key in ("icm", ("icm", "loss", "x")):
        with pytest.raises(
            ValueError, match=r"beside \('icm', 'loss'\): a key is either a value or a dict"
        ):
            metrics.log_value(key, 2.0)
    assert metrics.reduce() == {"icm": {"loss": 1.0}}


@pytest.mark.parametrize(
    "bad", [{3: 1.0}, {("a", "b"): 1.0}, {"bad": "high"}, {"nested": {"bad": None}}]
)
def test_a_dict_is_logged_as_a_whole_or_not_at_all(bad):
    metrics = MetricsLogger()
    with pytest.raises(TypeError):
        metrics.log_dict({"fine": 1.0, **bad})
    assert metrics.reduce() == {}


@pytest.mark.parametrize("value", [None, {"loss": 1.0}, "high", b"high", [1.0], (1.0,)])
def test_what_is_no_number_is_refused_with_its_key(value):
    with pytest.raises(TypeError, match=r"of \('loss',\) is not a number, an array or a tensor"):
        MetricsLogger().log_value("loss", value)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_a_value_that_does_not_go_with_those_before_it_is_refused_with_its_key(reduce, window):
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0, reduce=reduce, window=window)
    metrics.log_value("steps", 1)
    with pytest.raises(
        TypeError, match=r"Decimal\('1'\) of \('loss',\) does not go with those before it"
    ):
        metrics.log_value("loss", Decimal(1), reduce=reduce, window=window)
    assert metrics.reduce() == {"loss": 1.0, "steps": 1}


@pytest.mark.parametrize("depth", [99, 100, 3_000])
def test_a_key_has_at_most_99_names_and_can_be_taken_out_again(depth):
    metrics = MetricsLogger()
    if depth < 100:
        metrics.log_value(("a",) * depth, 1.0)
        assert str(metrics.reduce()).count("a") == depth
    else:
        with pytest.raises(TypeError, match="at most 99 names"):
            metrics.log_value(("a",) * depth, 1.0)


def test_a_dict_that_holds_itself_is_refused():
    values = {"a": 2.0}
    values["circle"] = values
    metrics = MetricsLogger()
    with pytest.raises(TypeError, match=r"not \('circle', 'circle', .*and has at most 99 names"):
        metrics.log_dict(values)
    assert metrics.reduce() == {}


def test_a_mapping_that_gives_a_name_twice_logs_it_once():
    class Twice(dict):
        def items(self):
            return iter([("a", 1.0), ("a", {"b": 2.0}), ("c", 3.0)])

    metrics = MetricsLogger()
    metrics.log_dict(Twice())
    assert metrics.reduce() == {"a": {"b": 2.0}, "c": 3.0}


def test_peek_of_a_key_never_logged_lists_the_keys_there_are():
    metrics = MetricsLogger()
    metrics.log_value("steps", 1)
    metrics.log_dict({"forward_loss": 2.0}, key="icm")
    for key in ("loss", ("icm", "loss"), ("steps", "loss")):
        with pytest.raises(KeyError) as raised:
            metrics.peek(key)
        assert f"nothing was logged under {key if isinstance(key, tuple) else (key,)}" in str(
            raised.value
        )
        assert "only under [('steps',), ('icm', 'forward_loss')]" in str(raised.value)
