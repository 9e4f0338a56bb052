"""What `check_module` finds in plain Python: one small module per mistake, and what it is told."""

import functools
import re
import sys
from collections import namedtuple
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


def module_with(loss_method):
    return type("Module", (SelfSupervisedLossAPI,), {"compute_self_supervised_loss": loss_method})()


def check(module, **arguments):
    return check_module(module, **{"batch": {}, "fwd_out": {}} | arguments)


def sentences_about(module, **arguments):
    """The lines of the one error that lists all violations, without where they were raised."""
    with pytest.raises(AssertionError) as raised:
        check(module, **arguments)
    _, *lines = re.sub(r" \(\S+\.py:\d+\)", "", str(raised.value)).splitlines()
    return [line.removeprefix("- ") for line in lines]


# What passes


class Sound(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        assert learner.module[module_id] is self
        assert learner.config is config
        loss = sum((a - b) ** 2 for a, b in zip(fwd_out["prediction"], batch["obs"], strict=True))
        learner.metrics.log_value((module_id, "loss"), loss, window=1)
        learner.metrics.log_value(f"{module_id}/loss", loss)
        learner.metrics.log_dict(
            {"terms": {"error": loss}}, key=module_id, reduce="ema", ema_coeff=0.1
        )
        return config["scale"] * loss


def test_a_sound_module_passes_without_a_word_and_its_loss_is_returned():
    arguments = {"batch": {"obs": [1.0, 2.0]}, "fwd_out": {"prediction": [2.0, 4.0]}}
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
    assert check(wrapper) == 1.0


def without_extras(loss_method):
    @functools.wraps(loss_method)
    def called(self, *, learner, module_id, config, batch, fwd_out, **extras):
        return loss_method(self, learner, module_id, config, batch, fwd_out)

    return called


@pytest.mark.parametrize(
    "loss_method",
    [
        without_extras(lambda self, learner, module_id, config, batch, fwd_out: 1.0),
        lambda self, *, learner, **kwargs: getattr(learner, "scale", 1.0),
        lambda self, *, config, **kwargs: 1.0 if config is None else config.beta,
    ],
    ids=[
        "a decorator drops what else a learner passes",
        "makes use of what some learners have",
        "takes no configuration for an answer",
    ],
)
def test_a_loss_method_that_only_looks_wrong_passes(loss_method):
    assert check(module_with(loss_method)) == 1.0


def test_parameters_that_are_not_torchs_are_left_alone():
    class HasParameters(SelfSupervisedLossAPI):
        parameters = property(lambda self: 1 / 0)

        def compute_self_supervised_loss(self, **kwargs):
            return 1.0

    assert check(HasParameters()) == 1.0


@pytest.mark.parametrize("loss", [1, True, 0.5, Fraction(1, 3)])
def test_any_real_number_is_a_scalar(loss):
    assert check(module_with(lambda self, **kwargs: loss)) is loss


@pytest.mark.parametrize("library", ["torch", "numpy.random"])
def test_a_library_that_is_not_imported_is_not_needed(library, monkeypatch):
    monkeypatch.delitem(sys.modules, library, raising=False)
    assert check(module_with(lambda self, **kwargs: 1.0)) == 1.0


class Circular(dict):
    """What holds itself, as an episode that its steps refer to."""

    def __init__(self):
        super().__init__(itself=self, again=self)


class KeepsResults:
    """Computes what it is asked for once, as distributions do."""

    @functools.cached_property
    def entropy(self):
        return 1.0


class LooksLikeAnArray:
    shape = (2,)

    def __reduce__(self):
        raise TypeError("cannot be pickled")


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (LooksLikeAnArray(), lambda data: data.shape),
        (Circular(), lambda data: data["itself"]),
        ({"dist": KeepsResults()}, lambda data: data["dist"].entropy),
        ([(n for n in range(3))], list),
    ],
    ids=["array that cannot be copied", "circular", "object in a dict", "generator"],
)
def test_input_that_is_only_read_is_not_changed(data, read):
    def loss_method(self, *, batch, **kwargs):
        read(batch["data"])
        return 1.0

    assert check(module_with(loss_method), batch={"data": data}) == 1.0


# What is a violation


class Unrelated: ...


@SelfSupervisedLossAPI.register
class Registered: ...


class Forwards:
    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (
            Unrelated(),
            "Unrelated does not implement SelfSupervisedLossAPI. Derive Unrelated from "
            "SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register.",
        ),
        (Registered(), "Registered has no method compute_self_supervised_loss. Write it."),
        (
            Forwards(module_with(lambda self, **kwargs: 1.0)),
            "Forwards does not implement SelfSupervisedLossAPI. Forwards is a wrapper that is not "
            "known: give the learner the module inside, or give Forwards a method unwrapped() that "
            "returns it.",
        ),
        (
            Sound,
            "Sound does not implement SelfSupervisedLossAPI. Sound is a class: write Sound(...).",
        ),
    ],
    ids=["unrelated", "registered without a method", "unknown wrapper", "class"],
)
def test_what_does_not_implement_the_api(module, sentence):
    assert sentences_about(module) == [sentence]


def test_a_module_that_cannot_be_looked_into_gives_the_error_of_its_own():
    class FailsToUnwrap:
        def unwrapped(self):
            raise ValueError("nothing inside")

    with pytest.raises(ValueError, match="nothing inside"):
        check(FailsToUnwrap())


def divides_by_zero(self, **kwargs):
    return 1 / 0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"batch": [1.0]}, "batch is no mapping but a list."),
        ({"fwd_out": (1.0,)}, "fwd_out is no mapping but a tuple."),
    ],
)
def test_input_that_is_no_mapping(arguments, fault):
    remedy = "Give each array a name, as in a dict: the loss method was not called."
    assert sentences_about(module_with(divides_by_zero), **arguments) == [f"{fault} {remedy}"]


def test_a_loss_method_without_kwargs():
    def loss_method(self, *, learner, module_id, config, batch, fwd_out):
        return 1.0

    assert sentences_about(module_with(loss_method)) == [
        "there is no **kwargs. Add it, since some learners pass more, as RLlib's TorchMetaLearner "
        "does."
    ]


def takes_a_target(self, *, learner, module_id, config, batch, fwd_out, target, **kwargs):
    return 1.0


def passes_extras_on(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
    return (lambda: 1.0)(**kwargs)


@pytest.mark.parametrize(
    ("loss_method", "error"),
    [
        (divides_by_zero, "ZeroDivisionError: division by zero"),
        (
            takes_a_target,
            "TypeError: takes_a_target() missing 1 required keyword-only argument: 'target'",
        ),
        (
            passes_extras_on,
            "TypeError: passes_extras_on.<locals>.<lambda>() got an unexpected keyword argument "
            "'an_extra_argument'",
        ),
        (
            lambda self, *, learner, **kwargs: learner.device,
            "AttributeError: not every learner has .device there. Ask for no more than module, "
            "config, metrics.",
        ),
        (
            lambda self, *, learner, **kwargs: learner.metrics.peek("loss"),
            "AttributeError: not every learner has .peek there. Ask for no more than log_value, "
            "log_dict.",
        ),
        (
            lambda self, *, learner, **kwargs: learner.metrics.log_value(3, 1.0),
            "TypeError: the key of a metric is a string or a tuple of strings, not 3",
        ),
        (
            lambda self, *, config, **kwargs: config["beta"],
            "TypeError: 'NoneType' object is not subscriptable. If that is config, pass config= to "
            "check_module.",
        ),
    ],
)
def test_a_loss_method_that_raises(loss_method, error):
    (sentence,) = sentences_about(module_with(loss_method))
    assert sentence == f"compute_self_supervised_loss raised {error}"


def test_a_value_none_that_is_not_the_configuration_is_not_blamed_on_it():
    module = module_with(lambda self, *, config, **kwargs: 2.0 * config["beta"])
    (sentence,) = sentences_about(module, config={"beta": None})
    assert "NoneType" in sentence and "config=" not in sentence


class Shaped(float):
    """A number with the shape of an array."""

    shape = (4,)


RETURN_A_SCALAR = "Return one scalar, and log what else there is."
LOOK_FOR_ZERO = "Look for a division by zero or a logarithm of zero."


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (None, f"the loss is None. {RETURN_A_SCALAR}"),
        ("1.0", f"the loss is a str, not a real number. {RETURN_A_SCALAR}"),
        (Shaped(), f"the loss has shape (4,), not (). {RETURN_A_SCALAR}"),
        (float("nan"), f"the loss is nan. {LOOK_FOR_ZERO}"),
        (float("inf"), f"the loss is inf. {LOOK_FOR_ZERO}"),
    ],
)
def test_a_loss_that_is_no_finite_scalar(loss, sentence):
    assert sentences_about(module_with(lambda self, **kwargs: loss)) == [sentence]


def test_a_metric_that_is_no_real_scalar():
    def loss_method(self, *, learner, module_id, **kwargs):
        learner.metrics.log_value((module_id, "errors"), Shaped())
        learner.metrics.log_dict({"loss": 1.0, "phase": 1j}, key=module_id)
        return 1.0

    assert sentences_about(module_with(loss_method)) == [
        "the value logged as ('module', 'errors') has shape (4,), not (). Log a scalar.",
        "the value logged as ('module', 'phase') is a complex, not a real number. Log a scalar.",
    ]


class Array:
    """Has a shape, which is all that counts here."""

    def __init__(self, *shape):
        self.shape = shape

    def __repr__(self):  # for the names of the cases, which must be the same in each process
        return f"Array{self.shape}"


@pytest.mark.parametrize(
    ("batch", "is_right"),
    [
        ({}, {(8,), (8, 5)}),
        ({"obs": Array(8, 4)}, {(8,)}),
        ({"obs": Array(8, 5, 4)}, {(8,), (8, 5)}),
        ({"obs": [1.0]}, {(8,), (8, 5)}),
        ({"obs": Array(8, 5, 4), "loss_mask": Array(8, 5)}, {(8, 5)}),
    ],
    ids=str,
)
def test_intrinsic_rewards_have_the_shape_of_the_rewards(batch, is_right):
    module = module_with(lambda self, **kwargs: 1.0)
    for shape in ((), (8,), (8, 5), (8, 5, 1)):
        fwd_out = {"intrinsic_rewards": Array(*shape)}
        if shape in is_right:
            check(module, batch=batch, fwd_out=fwd_out)
        else:
            assert sentences_about(module, batch=batch, fwd_out=fwd_out) == [
                f"fwd_out['intrinsic_rewards'] has shape {shape}. Make one for each row, of shape "
                "(B,) or, over time, (B, T)."
            ]
    check(module, batch=batch, fwd_out={"intrinsic_rewards": [1.0] * 8})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda data: data.update(new=None), "new"),
        (lambda data: data.pop("rewards"), "rewards"),
        (lambda data: data.update(rewards=[1.5]), "rewards"),
        (lambda data: data["rewards"].append(2.0), "rewards"),
    ],
    ids=["added", "removed", "replaced", "changed"],
)
@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_input_that_is_not_left_as_it_was(name, change, key):
    def loss_method(self, **inputs):
        change(inputs[name])
        return 1.0

    assert sentences_about(module_with(loss_method), **{name: {"rewards": [1.0]}}) == [
        f"{name}[{key!r}] is not as before. Leave the input as it is."
    ]


State = namedtuple("State", "hidden cell")


@dataclass(slots=True)
class Output:
    samples: Any


@pytest.mark.parametrize(
    ("data", "change"),
    [
        (State([1.0], {}), lambda data: data.cell.update(loss=1.0)),
        (Output([{2.0}]), lambda data: data.samples[0].add(3.0)),
        ([iter(())], lambda data: data.__setitem__(0, iter(()))),
    ],
    ids=["dict in a named tuple", "set in a dataclass", "list of what cannot be copied"],
)
def test_a_change_within_any_container_is_found(data, change):
    def loss_method(self, *, batch, **kwargs):
        change(batch["data"])
        return 1.0

    assert sentences_about(module_with(loss_method), batch={"data": data}) == [
        "batch['data'] is not as before. Leave the input as it is."
    ]


def test_all_violations_are_listed_at_once_and_no_hint():
    class Broken:
        def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out):
            batch["obs"].clear()
            batch["error"] = 0.0
            learner.metrics.log_value("of which module?", Shaped())
            return {"loss": 1.0}

    with pytest.raises(AssertionError) as raised:
        check(Broken(), batch={"obs": [1.0]})
    beginnings = [
        "Broken breaks the contract of SelfSupervisedLossAPI:",
        "- Broken does not implement",
        "- there is no **kwargs",
        "- batch['obs'] is",
        "- batch['error'] is",
        "- the loss is a dict",
        "- the value logged as ('of which module?',) has shape (4,)",
    ]
    for line, beginning in zip(str(raised.value).splitlines(), beginnings, strict=True):
        assert line.startswith(beginning)


# Where something was raised


def test_an_error_names_the_line_that_raised_it_and_stays_the_cause():
    with pytest.raises(AssertionError) as raised:
        check(module_with(divides_by_zero))
    line = divides_by_zero.__code__.co_firstlineno + 1
    assert f"compute_self_supervised_loss ({__file__}:{line}) raised" in str(raised.value)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_error_below_the_loss_method_names_the_last_line_in_its_file():
    class Module(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, **kwargs):
            return self.mean()

        def mean(self):
            return Fraction("half")

    with pytest.raises(AssertionError) as raised:
        check(Module())
    line = Module.mean.__code__.co_firstlineno + 1
    assert f"({__file__}:{line}) raised ValueError" in str(raised.value)


@pytest.mark.parametrize(
    "loss_method",
    [
        divides_by_zero,
        lambda self, *, learner, **kwargs: learner.device,
        lambda self, **kwargs: None,
    ],
)
def test_no_frame_of_the_check_is_shown_by_pytest(loss_method):
    with pytest.raises(AssertionError) as raised:
        check_module(module_with(loss_method), batch={}, fwd_out={})
    errors = [raised.value, raised.value.__cause__] if raised.value.__cause__ else [raised.value]
    for shown in map(pytest.ExceptionInfo.from_exception, errors):
        assert {str(entry.path) for entry in shown.traceback.filter(shown)} == {__file__}


def test_what_is_no_error_goes_through():
    def loss_method(self, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(module_with(loss_method))


# What may be meant


def logs_without_its_id(self, *, learner, module_id, **kwargs):
    learner.metrics.log_value("loss", 1.0)
    learner.metrics.log_dict({"terms": {"error": 2.0}})
    learner.metrics.log_value((module_id, "loss"), 1.0)
    return 1.0


def test_a_metric_that_other_modules_would_share_is_a_hint_with_the_key_to_use():
    with pytest.warns(UserWarning) as warned:
        assert check(module_with(logs_without_its_id), module_id="icm") == 1.0
    (warning,) = warned
    assert str(warning.message).splitlines() == [
        "all modules that log ('loss',) would share it. Begin with module_id: ('icm', 'loss').",
        "all modules that log ('terms', 'error') would share it. "
        "Begin with module_id: ('icm', 'terms', 'error').",
    ]


def test_a_hint_points_at_the_call_of_check_module():
    with pytest.warns(UserWarning) as warned:
        check_module(module_with(logs_without_its_id), batch={}, fwd_out={})
    assert warned[0].filename == __file__
