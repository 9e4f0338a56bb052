"""What `check_module` finds. Each broken module breaks the contract in one way; the last one in several."""

import math
import warnings

import pytest

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


def batch():
    return {"obs": [1.0, 2.0], "seed": 3}


def violations_of(module, **arguments):
    """The lines of the one error that lists them all."""
    with pytest.raises(AssertionError) as raised:
        check_module(module, **{"batch": batch(), "fwd_out": {"prediction": [2.0, 2.0]}, **arguments})
    title, *violations = str(raised.value).splitlines()
    assert title == f"{type(module).__name__} breaks the contract of SelfSupervisedLossAPI:"
    if raised.value.__cause__ is not None:
        assert violations.pop() == "What comes after the call that raised was not checked."
    return violations


def module_with(loss_method):
    return type("Module", (SelfSupervisedLossAPI,), {"compute_self_supervised_loss": loss_method})()


class Sound(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        assert learner.module[module_id] is self
        assert learner.config is config
        loss = sum((a - b) ** 2 for a, b in zip(fwd_out["prediction"], batch["obs"], strict=True))
        learner.metrics.log_value((module_id, "loss"), loss, window=1)
        learner.metrics.log_dict({"terms": {"error": loss}}, key=module_id, reduce="ema", ema_coeff=0.1)
        return config["scale"] * loss


def test_a_sound_module_passes_and_its_loss_is_returned():
    arguments = {"batch": batch(), "fwd_out": {"prediction": [2.0, 4.0]}}
    assert check_module(Sound(), config={"scale": 2.0}, module_id="icm", **arguments) == 10.0


def test_a_wrapped_module_passes():
    class Wrapper:
        def unwrapped(self):
            return Module()

    class Module(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, learner, module_id, **kwargs):
            assert learner.module[module_id] is wrapper
            return 1.0

    wrapper = Wrapper()
    assert check_module(wrapper, batch={}, fwd_out={}) == 1.0


def test_a_registered_class_passes():
    @SelfSupervisedLossAPI.register
    class Registered:
        def compute_self_supervised_loss(self, **kwargs):
            return 1.0

    assert check_module(Registered(), batch={}, fwd_out={}) == 1.0


def test_parameters_that_are_not_torchs_ask_for_no_graph():
    class Module(SelfSupervisedLossAPI):
        def parameters(self):
            return [0.5, 1.5]

        def compute_self_supervised_loss(self, **kwargs):
            return 1.0

    assert check_module(Module(), batch={}, fwd_out={}) == 1.0


# Who implements the API


def test_a_class_that_does_not_implement_the_api():
    class Other: ...

    assert violations_of(Other()) == [
        "- Other does not implement SelfSupervisedLossAPI. Derive it from SelfSupervisedLossAPI, or register it with "
        "SelfSupervisedLossAPI.register."
    ]


def test_a_class_that_is_only_duck_typed():
    class DuckTyped:
        def compute_self_supervised_loss(self, **kwargs):
            return 1.0

    (violation,) = violations_of(DuckTyped())
    assert "DuckTyped does not implement SelfSupervisedLossAPI, it only has a method of that name." in violation
    assert "Derive it from SelfSupervisedLossAPI" in violation


# How it is called


def test_a_method_without_kwargs():
    def loss_method(self, *, learner, module_id, config, batch, fwd_out):
        return 1.0

    (violation,) = violations_of(module_with(loss_method))
    assert (
        violation == "- there is no **kwargs. Add it, since some learners pass more, as RLlib's TorchMetaLearner does."
    )


def test_a_method_that_takes_kwargs_and_chokes_on_them():
    def loss_method(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return (lambda: 1.0)(**kwargs)

    (violation,) = violations_of(module_with(loss_method))
    assert "compute_self_supervised_loss raised TypeError" in violation
    assert "an_extra_argument" in violation


def test_a_method_that_lacks_parameters():
    def loss_method(self, *, learner, module_id, config, forward_out=None):
        return 1.0

    missing_kwargs, *missing = violations_of(module_with(loss_method))
    assert "there is no **kwargs" in missing_kwargs
    assert missing == [
        "- there is no parameter batch. Add it, since every learner passes it.",
        "- there is no parameter fwd_out. Add it, since every learner passes it.",
    ]


def test_a_method_with_a_parameter_that_no_learner_passes():
    def loss_method(self, *, learner, module_id, config, batch, fwd_out, target_net, **kwargs):
        return 1.0

    (violation,) = violations_of(module_with(loss_method))
    assert "raised TypeError" in violation
    assert "'target_net'" in violation


def test_a_method_with_positional_only_parameters():
    def loss_method(self, batch, fwd_out, /, learner, module_id, config, **kwargs):
        return 1.0

    violations = violations_of(module_with(loss_method))
    assert violations[:2] == [
        "- batch is positional-only. Put a * before it, since learners pass it by name.",
        "- fwd_out is positional-only. Put a * before it, since learners pass it by name.",
    ]


# What it does


def test_a_module_that_asks_for_more_than_every_learner_has():
    def loss_method(self, *, learner, **kwargs):
        return learner.device

    assert violations_of(module_with(loss_method)) == [
        "- compute_self_supervised_loss raised AttributeError: not every learner has .device there. Ask for no more "
        "than module, config, metrics."
    ]


def test_a_module_that_asks_for_more_than_every_logger_has():
    def loss_method(self, *, learner, **kwargs):
        return learner.metrics.peek("loss")

    (violation,) = violations_of(module_with(loss_method))
    assert "not every learner has .peek there. Ask for no more than log_value, log_dict." in violation


def test_a_module_may_make_use_of_what_some_learners_have():
    def loss_method(self, *, learner, **kwargs):
        return getattr(learner, "scale", 1.0)

    assert check_module(module_with(loss_method), batch={}, fwd_out={}) == 1.0


def test_a_method_that_raises_is_the_cause_of_the_error():
    def loss_method(self, **kwargs):
        raise ZeroDivisionError("no transitions")

    with pytest.raises(AssertionError, match="raised ZeroDivisionError: no transitions") as raised:
        check_module(module_with(loss_method), batch={}, fwd_out={})
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_method_that_cannot_be_called_twice():
    def loss_method(self, *, fwd_out, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 1:
            raise RuntimeError("already computed")
        return 1.0

    (violation,) = violations_of(module_with(loss_method))
    assert "compute_self_supervised_loss raised RuntimeError when called again: already computed" in violation


class Shaped(float):
    shape = (4,)


@pytest.mark.parametrize(
    ("loss", "fault"),
    [
        (None, "the loss is None. Return one scalar"),
        (
            {"forward": 1.0, "inverse": 2.0},
            "the loss is a dict, not a real number. Return one scalar, and log what else there is.",
        ),
        ("1.0", "the loss is a str, not a real number. Return one scalar"),
        (Shaped(), "the loss has shape (4,), not (). Return one scalar"),
        (math.nan, "the loss is nan. Look for a division by zero or a logarithm of zero."),
        (math.inf, "the loss is inf. Look for"),
    ],
)
def test_a_loss_that_is_no_finite_scalar(loss, fault):
    (violation,) = violations_of(module_with(lambda self, **kwargs: loss))
    assert fault in violation


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (Shaped(), "the value logged as ('module', 'error') has shape (4,), not (). Log a scalar."),
        (None, "the value logged as ('module', 'error') is None. Log a scalar."),
        ("high", "the value logged as ('module', 'error') is a str, not a real number. Log a scalar."),
    ],
)
def test_a_logged_value_that_is_no_scalar(value, fault):
    def log_value(self, *, learner, module_id, **kwargs):
        learner.metrics.log_value((module_id, "error"), value)
        return 1.0

    def log_dict(self, *, learner, module_id, **kwargs):
        learner.metrics.log_dict({"loss": 1.0, "error": value}, key=module_id)
        return 1.0

    assert violations_of(module_with(log_value)) == [f"- {fault}"]
    assert violations_of(module_with(log_dict)) == [f"- {fault}"]


def test_a_key_of_a_metric_that_is_no_string():
    def loss_method(self, *, learner, **kwargs):
        learner.metrics.log_value(3, 1.0)
        return 1.0

    (violation,) = violations_of(module_with(loss_method))
    assert "the key of a metric is a string or a tuple of strings, not 3" in violation


def add(data):
    data["new"] = None


def remove(data):
    del data["rewards"]


def replace(data):
    data["rewards"] = [1.0]


def change_in_place(data):
    data["rewards"].append(2.0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (add, "['new'] was added, replaced or removed. Leave the input as it is"),
        (replace, "['rewards'] was added, replaced or removed. Leave the input as it is"),
        (remove, "['rewards'] was added, replaced or removed. Leave the input as it is"),
        (change_in_place, "['rewards'] was changed in place. Leave the input as it is"),
    ],
)
@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_input_that_is_not_left_as_it_was(name, change, fault):
    def loss_method(self, **inputs):
        if "rewards" in inputs[name]:
            change(inputs[name])
        return 1.0

    (violation,) = violations_of(module_with(loss_method), **{name: {"rewards": [1.0]}})
    assert name + fault in violation


def test_a_nested_dict_that_is_changed_in_place():
    def loss_method(self, *, fwd_out, **kwargs):
        fwd_out["world_model"]["loss"] = 1.0
        return 1.0

    (violation,) = violations_of(module_with(loss_method), fwd_out={"world_model": {}})
    assert "fwd_out['world_model'] was changed in place" in violation


def test_input_that_cannot_be_pickled_is_still_told_apart_by_identity():
    def replaces(self, *, batch, **kwargs):
        batch["generators"] = [iter(())]
        return 1.0

    unpicklable = {"generators": [(n for n in range(3))]}
    assert check_module(module_with(lambda self, **kwargs: 1.0), batch=unpicklable, fwd_out={}) == 1.0
    (violation,) = violations_of(module_with(replaces), batch=unpicklable)
    assert "batch['generators'] was added, replaced or removed" in violation


def test_a_second_loss_that_differs_is_a_hint_and_no_violation():
    def loss_method(self, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        return float(self.calls)

    with pytest.warns(UserWarning, match=r"1\.0 and then 2\.0 on the same input\. If that is not meant"):
        assert check_module(module_with(loss_method), batch={}, fwd_out={}) == 1.0


def test_the_hint_points_at_the_line_that_asked_for_the_check():
    losses = iter([1.0, 2.0])
    with pytest.warns(UserWarning, match="the loss of Module was") as warned:
        check_module(module_with(lambda self, **kwargs: next(losses)), batch={}, fwd_out={})
    assert warned[0].filename == __file__


def test_a_sound_module_gets_no_hint():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_module(Sound(), batch=batch(), fwd_out={"prediction": [0.0, 0.0]}, config={"scale": 1.0})


def test_all_violations_are_listed_at_once():
    class Broken:
        def compute_self_supervised_loss(self, *, learner, module_id, config, batch, output=None):
            batch["obs"].clear()
            batch["error"] = 0.0
            learner.metrics.log_dict({"trace": [1.0]}, key=module_id)
            return {"loss": 1.0}

    violations = violations_of(Broken())
    for what in (
        "does not implement",
        "no **kwargs",
        "no parameter fwd_out",
        "logged as ('module', 'trace') is a list",
    ):
        assert any(what in violation for violation in violations), what
    for what in ("batch['obs'] was changed", "batch['error'] was added", "the loss is a dict"):
        assert any(what in violation for violation in violations), what
    assert len(violations) == 7


def test_a_registered_class_that_lacks_the_method():
    @SelfSupervisedLossAPI.register
    class Registered: ...

    (violation,) = violations_of(Registered())
    assert "Registered does not implement SelfSupervisedLossAPI." in violation


def test_a_second_loss_that_is_none():
    losses = iter([1.0, None])
    (violation,) = violations_of(module_with(lambda self, **kwargs: next(losses)))
    assert "the loss is None. Return one scalar" in violation
