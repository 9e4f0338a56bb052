"""Properties that hold for any input, tested by Hypothesis."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI


class Plain: ...


class Derived(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, **arguments):
        return "own", arguments


@SelfSupervisedLossAPI.register
class Registered:
    compute_self_supervised_loss = Derived.compute_self_supervised_loss


class RecordingLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback", arguments


class ConfigPerModule(dict):
    get_config_for_module = dict.__getitem__


@given(
    classes=st.dictionaries(st.text(), st.sampled_from([Plain, Derived, Registered]), max_size=8),
    extras=st.dictionaries(
        st.sampled_from(["step", "others_loss_per_module", "generator"]), st.integers()
    ),
    data=st.data(),
)
def test_each_output_gets_the_loss_of_its_module(classes, extras, data):
    modules = {module_id: module_class() for module_id, module_class in classes.items()}
    batch = {module_id: {"obs": object()} for module_id in modules}
    configs = ConfigPerModule({module_id: object() for module_id in modules})
    number_trained = data.draw(st.integers(0, len(modules)))
    trained_now = data.draw(st.permutations([*modules]))[:number_trained]
    fwd_out = {module_id: {"features": object()} for module_id in trained_now}

    learner = RecordingLearner(module=modules, config=configs)
    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, **extras)

    assert [*losses] == trained_now
    for module_id, (kind, arguments) in losses.items():
        implements_the_api = classes[module_id] is not Plain
        assert kind == ("own" if implements_the_api else "fallback")
        assert arguments.pop("learner", None) is (learner if implements_the_api else None)
        assert arguments == {
            "module_id": module_id,
            "config": configs[module_id],
            "batch": batch[module_id],
            "fwd_out": fwd_out[module_id],
            **extras,
        }


NUMBERS = (
    st.floats(-1e6, 1e6)
    | st.integers(-(10**6), 10**6)
    | st.booleans()
    | st.fractions(-99, 99, max_denominator=10)
)
REDUCTIONS = {
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "sum": math.fsum,
    "item": lambda values: values[-1],
}


@pytest.mark.parametrize("reduce", REDUCTIONS)
@given(values=st.lists(NUMBERS, min_size=1, max_size=20), window=st.none() | st.integers(1, 25))
def test_values_are_reduced_like_the_standard_library(reduce, values, window):
    metrics = MetricsLogger()
    for value in values:
        metrics.log_value("loss", value, reduce=reduce, window=window)
    last_values = values if window is None else values[-window:]
    expected = pytest.approx(float(REDUCTIONS[reduce](last_values)), abs=1e-6)
    assert float(metrics.peek("loss")) == expected
    assert float(metrics.reduce()["loss"]) == expected
