"""What becomes of logged values. The frameworks' own values are logged in tests/frameworks."""

import copy
import gc
import math
import pickle
import statistics
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_supervised_loss import MetricsLogger

NUMBERS = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)


def ema(values, coeff):
    result, *rest = values
    for value in rest:
        result = (1 - coeff) * result + coeff * value
    return result


REDUCTIONS = {
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "sum": math.fsum,
    "item": lambda values: values[-1],
}


@pytest.mark.parametrize("reduce", REDUCTIONS)
@given(values=st.lists(NUMBERS, min_size=1, max_size=20), window=st.none() | st.integers(1, 25))
def test_values_are_reduced(reduce, values, window):
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("loss", value, reduce=reduce, window=window)
    expected = REDUCTIONS[reduce](values if window is None else values[-window:])
    assert metrics.peek("loss") == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert metrics.reduce() == {"loss": pytest.approx(expected, rel=1e-9, abs=1e-6)}


@given(values=st.lists(NUMBERS, min_size=1, max_size=20), coeff=st.none() | st.floats(0.001, 1))
def test_an_exponential_moving_average_starts_at_the_first_value(values, coeff):
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("loss", value, reduce="ema", ema_coeff=coeff)
    assert metrics.peek("loss") == pytest.approx(ema(values, coeff or 0.01), rel=1e-9, abs=1e-6)


def test_the_mean_is_the_default():
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0)
    metrics.log_value("loss", 2.0)
    metrics.log_dict({"error": 1.0})
    metrics.log_dict({"error": 2.0})
    assert metrics.reduce() == {"loss": 1.5, "error": 1.5}


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


@pytest.mark.parametrize(("values", "mean"), [([4.0, math.inf, 1.0], math.inf), ([1e308, -1e308], 0.0)])
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
    assert metrics.peek("icm") == {"forward_loss": 2, "inverse_loss": 3, "grads": {"norm": 4}, "lr": 6}
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


def test_peek_changes_nothing_and_reduce_starts_afresh():
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0)
    assert metrics.peek("loss") == metrics.peek("loss") == 1.0
    assert metrics.reduce() == {"loss": 1.0}
    assert metrics.reduce() == {}
    metrics.log_value("loss", 5.0, reduce="sum")
    assert metrics.reduce() == {"loss": 5.0}


def test_what_reduce_returned_is_not_changed_later():
    metrics = MetricsLogger()
    metrics.log_value(("icm", "loss"), 1.0)
    reduced = metrics.reduce()
    metrics.log_value(("icm", "loss"), 5.0)
    metrics.log_value(("icm", "error"), 5.0)
    assert reduced == {"icm": {"loss": 1.0}}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda metrics: pickle.loads(pickle.dumps(metrics))])
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
    ("settings", "message"),
    [
        ({"reduce": "median"}, "reduce is one of 'mean', 'min', 'max', 'sum', 'ema', 'item', not 'median'"),
        ({"reduce": None}, "reduce is one of 'mean', 'min', 'max', 'sum', 'ema', 'item', not None"),
        ({"window": 0}, "window is None, for all values, or an integer from 1 on, not 0"),
        ({"window": -3}, "an integer from 1 on, not -3"),
        ({"window": 2.5}, "an integer from 1 on, not 2.5"),
        ({"reduce": "ema", "window": 3}, "window with all others, but reduce='ema'"),
        ({"ema_coeff": 0.1}, "ema_coeff goes with reduce='ema' alone, and window with all others, but reduce='mean'"),
        ({"reduce": "ema", "ema_coeff": 0.0}, "ema_coeff is above 0 and at most 1, not 0.0"),
        ({"reduce": "ema", "ema_coeff": 1.5}, "ema_coeff is above 0 and at most 1, not 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    metrics = MetricsLogger()
    with pytest.raises(ValueError) as raised:
        metrics.log_value("loss", 1.0, **settings)
    assert message in str(raised.value)
    with pytest.raises(ValueError) as raised:
        metrics.log_dict({"loss": 1.0}, **settings)
    assert message in str(raised.value)
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
    with pytest.raises(ValueError, match=r"\('loss',\) takes {.*'mean'.*}, not {.*'sum'.*}. Use another key"):
        metrics.log_value("loss", 2.0, reduce="sum")
    assert metrics.reduce() == {"loss": 1.0}


def test_a_key_is_not_both_a_value_and_a_dict():
    metrics = MetricsLogger()
    metrics.log_value(("icm", "loss"), 1.0)
    with pytest.raises(ValueError, match=r"\('icm',\).* holds a dict already, with \['loss'\]"):
        metrics.log_value("icm", 2.0)
    with pytest.raises(ValueError, match=r"\('icm', 'loss', 'x'\): \('icm', 'loss'\) holds a value already"):
        metrics.log_value(("icm", "loss", "x"), 2.0)
    assert metrics.reduce() == {"icm": {"loss": 1.0}}


def test_a_dict_is_logged_as_a_whole_or_not_at_all():
    class Unfit:
        def __mul__(self, other):
            raise TypeError("unfit")

    metrics = MetricsLogger()
    for bad in (
        {"fine": 1.0, 3: 1.0},
        {"fine": 1.0, ("fine", "nested"): 1.0},
        {"fine": 1.0, "bad": Unfit()},
        {"fine": 1.0, "nested": {"bad": Unfit()}},
    ):
        with pytest.raises(TypeError):
            metrics.log_dict(bad)
        assert metrics.reduce() == {}


@pytest.mark.parametrize("value", [None, {"loss": 1.0}])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"\('loss',\) is .*, not a number, an array or a tensor; log_dict takes dicts"):
        MetricsLogger().log_value("loss", value)


def test_peek_of_a_key_never_logged_lists_the_keys_there_are():
    metrics = MetricsLogger()
    metrics.log_value("steps", 1)
    metrics.log_dict({"forward_loss": 2.0}, key="icm")
    for key in ("loss", ("icm", "loss"), ("steps", "loss")):
        with pytest.raises(KeyError) as raised:
            metrics.peek(key)
        assert f"nothing was logged under {key!r}" in str(raised.value)
        assert "['steps', ('icm', 'forward_loss')]" in str(raised.value)
