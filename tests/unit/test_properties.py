"""What holds whatever is put in, found out by Hypothesis.

- Every ID in `fwd_out` gets the loss of its module, of its batch, of its configuration, in the
  order of `fwd_out`, whatever else the class of the module defines, and an ID that `module` or
  `batch` lacks is named.
- A module whose loss method raises changes nothing for the others.
- What is logged is reduced as `statistics`, `min`, `max` and `sum` do, in any window.
- A value that is refused leaves the logger as it was before, and a dict is logged value by value.
"""

import contextlib
import copy
import math
import statistics
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss._metrics import Reduce

METHOD = "compute_self_supervised_loss"


def own_loss(self, **arguments):
    return "own", arguments


class RecordingLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback", arguments


class ConfigPerModule(dict):
    get_config_for_module = dict.__getitem__


@st.composite
def module_classes(draw):
    """Classes that implement the API in one of its ways, or do not, and that define this and that
    besides."""
    how = draw(
        st.sampled_from(["derived", "derived from a derived class", "registered", "not at all"])
    )
    body: dict[str, Any] = {
        name: draw(st.sampled_from([None, 0, (), own_loss, property(own_loss)]))
        for name in draw(
            st.sets(st.sampled_from(["module", "_orig_mod", "unwrap", "loss", "config", "metrics"]))
        )
    }
    body["__call__"] = body["__getitem__"] = own_loss
    if how == "not at all":
        return False, type("Plain", (), body)
    body[METHOD] = own_loss
    if how == "registered":
        return True, SelfSupervisedLossAPI.register(type("Registered", (), body))
    base = (
        SelfSupervisedLossAPI
        if how == "derived"
        else type("Base", (SelfSupervisedLossAPI,), {METHOD: own_loss})
    )
    return True, type("Derived", (base,), body)


MODULE_IDS = st.text() | st.integers() | st.tuples(st.text(), st.integers()) | st.none()


@given(
    classes=st.dictionaries(MODULE_IDS, module_classes(), max_size=8),
    extras=st.dictionaries(
        st.sampled_from(["step", "others_loss_per_module", "generator"]), st.integers()
    ),
    lacking=st.sampled_from([None, None, "module", "batch"]),
    data=st.data(),
)
def test_every_output_gets_the_loss_of_its_module_or_is_named(classes, extras, lacking, data):
    modules = {module_id: module_class() for module_id, (_, module_class) in classes.items()}
    trained_now = data.draw(
        st.permutations(list(modules)).flatmap(lambda ids: st.just(ids[: len(ids) // 2 + 1]))
    )
    batch = {module_id: {"obs": object()} for module_id in modules}
    fwd_out = {module_id: {"features": object()} for module_id in trained_now}
    configs = ConfigPerModule({module_id: object() for module_id in modules})
    learner = RecordingLearner(module=modules, config=configs)
    if lacking and trained_now:
        lacked = data.draw(st.sampled_from(trained_now))
        has = {"module": modules, "batch": batch}[lacking]
        del has[lacked]
        with pytest.raises(KeyError) as raised:
            learner.compute_losses(fwd_out=fwd_out, batch=batch, **extras)
        assert raised.value.args == (
            f"{lacked!r} is in fwd_out but not in {lacking}, which has {[*has]}",
        )
        return

    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, **extras)

    assert list(losses) == trained_now
    for module_id, (kind, arguments) in losses.items():
        implements_the_api, _ = classes[module_id]
        assert kind == ("own" if implements_the_api else "fallback")
        assert arguments.pop("learner", None) is (learner if implements_the_api else None)
        assert arguments.pop("module_id") == module_id
        assert arguments.pop("batch") is batch[module_id]
        assert arguments.pop("fwd_out") is fwd_out[module_id]
        assert arguments.pop("config") is configs[module_id]
        assert arguments == extras


@given(module_ids=st.lists(st.text(), min_size=1, max_size=8, unique=True), data=st.data())
def test_a_module_that_fails_changes_nothing_for_the_others(module_ids, data):
    class Module(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, module_id, **arguments):
            called.append(module_id)
            if module_id == failing:
                raise error
            return module_id

    called: list[str] = []
    error = RuntimeError("out of order")
    failing: Any = data.draw(st.sampled_from(module_ids))
    learner = Learner(module={module_id: Module() for module_id in module_ids})
    inputs = {module_id: {} for module_id in module_ids}

    with pytest.raises(RuntimeError) as raised:
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert raised.value is error
    assert called == module_ids[: module_ids.index(failing) + 1]

    failing = object()
    assert learner.compute_losses(fwd_out=inputs, batch=inputs) == {
        module_id: module_id for module_id in module_ids
    }


NUMBERS = (
    st.floats(-1e6, 1e6)
    | st.integers(-(10**6), 10**6)
    | st.booleans()
    | st.fractions(-99, 99, max_denominator=10)
)
REDUCTIONS = {
    "mean": lambda values: statistics.fmean(values),
    "min": min,
    "max": max,
    "sum": math.fsum,
    "item": lambda values: values[-1],
}


@pytest.mark.parametrize("reduce", REDUCTIONS)
@given(values=st.lists(NUMBERS, min_size=1, max_size=20), window=st.none() | st.integers(1, 25))
def test_values_are_reduced_as_the_standard_library_does(reduce, values, window):
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("loss", value, reduce=reduce, window=window)
    expected = pytest.approx(
        float(REDUCTIONS[reduce](values if window is None else values[-window:])), abs=1e-6
    )
    assert float(metrics.peek("loss")) == expected
    assert float(metrics.reduce()["loss"]) == expected


@given(
    values=st.lists(NUMBERS, min_size=1, max_size=20),
    coeff=st.floats(0.001, 1),
    cuts=st.sets(st.integers(1, 19)),
)
def test_a_moving_average_starts_at_the_first_value_and_never_again(values, coeff, cuts):
    metrics = MetricsLogger()
    expected = float(values[0])
    for position, value in enumerate(values):
        metrics.log_value("loss", value, reduce="ema", ema_coeff=coeff)
        if position:
            expected = (1 - coeff) * expected + coeff * float(value)
        if position in cuts:
            assert float(metrics.reduce()["loss"]) == pytest.approx(expected, abs=1e-6)
    assert float(metrics.peek("loss")) == pytest.approx(expected, abs=1e-6)


NAMES = st.sampled_from(["a", "b", "c", ""])
KEYS = NAMES | st.lists(NAMES, min_size=1, max_size=3).map(tuple)
BAD_KEYS = st.sampled_from([None, 3, (), b"a", ("a", 3)])
VALUES = NUMBERS | st.sampled_from([None, "high", b"high", [1.0], {1.0}, object(), float])
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "reduce": st.sampled_from([*get_args(Reduce), *get_args(Reduce), "median", None, ["mean"]]),
        "window": st.sampled_from([None, 1, 2, 10**30, 0, -1, 1.0, "2"]),
        "ema_coeff": st.sampled_from([None, 1, 0.5, Fraction(1, 2), 0, 2, -1.0, math.nan]),
    },
)


def result(metrics):
    return copy.deepcopy(metrics).reduce()


@given(entries=st.lists(st.tuples(KEYS | BAD_KEYS, VALUES, SETTINGS), max_size=6))
def test_what_is_refused_changes_nothing(entries):
    metrics = MetricsLogger()
    for key, value, settings in entries:
        before = result(metrics)
        try:
            metrics.log_value(key, value, **settings)
        except (TypeError, ValueError):
            assert result(metrics) == before
        else:
            assert isinstance(value, (int, float, Fraction))


@given(
    entries=st.lists(
        st.tuples(st.dictionaries(NAMES, VALUES, max_size=3), KEYS, SETTINGS), max_size=6
    )
)
def test_a_dict_is_logged_as_its_values_are_until_one_is_refused(entries):
    metrics, one_by_one = MetricsLogger(), MetricsLogger()
    for values, key, settings in entries:
        with contextlib.suppress(TypeError, ValueError):
            metrics.log_dict(values, key=key, **settings)
        above = (key,) if isinstance(key, str) else key
        with contextlib.suppress(TypeError, ValueError):
            for name, value in values.items():
                one_by_one.log_value((*above, name), value, **settings)
        assert result(metrics) == result(one_by_one)
