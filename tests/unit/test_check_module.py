"""`check_module` in plain Python: one small module for each mistake, and what it says about it."""

import sys
from contextlib import contextmanager
from fractions import Fraction
from functools import wraps

import pytest
from unit.checking import changing, check, hints_of, module_with, returning, violations_of
from unit.shared import Plain, Wrapper

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import _checks, check_module

# Correct modules


class Sound(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(
        self, *, learner, module_id, config, batch, fwd_out, timestep, **kwargs
    ):
        assert learner.module[module_id] is self
        assert learner.config is config
        loss = sum((a - b) ** 2 for a, b in zip(fwd_out["prediction"], batch["obs"], strict=True))
        learner.metrics.log_value((module_id, "loss"), loss, window=1)
        learner.metrics.log_value(f"{module_id}/loss", loss)
        terms = {"terms": {"error": loss}}
        learner.metrics.log_dict(terms, key=module_id, reduce="ema", ema_coeff=0.1)
        return timestep * config["scale"] * loss


@pytest.mark.parametrize("fwd_out", [{"prediction": [2.0, 4.0]}, lambda _: {"prediction": [2, 4]}])
def test_a_correct_module_gets_no_message_and_its_loss_is_returned(fwd_out):
    arguments = {"batch": {"obs": [1.0, 2.0]}, "config": {"scale": 2.0}, "module_id": "icm"}
    assert check(Sound(), fwd_out=fwd_out, timestep=3, **arguments) == 30.0


def test_a_wrapped_module_passes():
    def loss_method(self, *, learner, module_id, fwd_out, **kwargs):
        assert learner.module[module_id] is wrapper
        return fwd_out["loss"]

    wrapper = Wrapper(module_with(loss_method))
    assert check(wrapper, fwd_out=lambda module: {"loss": float(module is wrapper)}) == 1.0


def without_arguments(loss_method):
    return wraps(loss_method)(lambda self, **arguments: loss_method(self))


UNUSUAL = {
    "decorator that drops arguments": without_arguments(lambda self: 1.0),
    "optional attribute": lambda self, *, learner, **kwargs: getattr(learner, "scale", 1.0),
}


@pytest.mark.parametrize("loss_method", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_loss_method_passes(loss_method):
    # torch has a method `parameters`; other classes may give the name another meaning.
    assert check(module_with(loss_method, parameters=property(lambda self: 1 / 0))) == 1.0


@pytest.mark.parametrize("loss", [1, True, 0.5, Fraction(1, 3)])
def test_any_real_number_is_a_scalar(loss):
    assert check(returning(loss)) is loss


@pytest.mark.parametrize("library", ["torch", "torch.overrides", "jax", "numpy"])
def test_no_library_needs_to_be_imported(library, monkeypatch):
    monkeypatch.delitem(sys.modules, library, raising=False)
    assert check(returning(1.0)) == 1.0


# Violations


@SelfSupervisedLossAPI.register
class Registered: ...


class Forwards:
    def __getattr__(self, name):
        return getattr(returning(1.0), name)


def logs_an_array(self, *, learner, module_id, **kwargs):
    learner.metrics.log_value((module_id, "errors"), Shaped())
    learner.metrics.log_dict({"loss": 1.0}, key=module_id)
    return 1.0


class Shaped(float):
    """A number with the shape of an array."""

    shape = (4,)


async def returns_later(self, **arguments):
    return 1.0


NOT_THE_API = "does not implement SelfSupervisedLossAPI.\n "
NOT_ACCEPTED = "compute_self_supervised_loss does not accept"
RETURN_A_SCALAR = "Return one scalar, and log any other values."
VIOLATIONS = [
    (Plain(), f"Plain {NOT_THE_API} Derive Plain from SelfSupervisedLossAPI"),
    (Forwards(), f"Forwards {NOT_THE_API} Forwards is an unknown wrapper."),
    (
        Registered(),
        "Registered has no method compute_self_supervised_loss.\n"
        "  Define it with the parameters that it has in SelfSupervisedLossAPI.",
    ),
    (
        module_with(lambda self, *, learner, module_id, config, batch, fwd_out: 1.0),
        f"{NOT_ACCEPTED} **kwargs.\n"
        "  Add **kwargs: learners pass all arguments of the API, and some pass more.",
    ),
    (
        module_with(lambda self, learner, /, batch, fwd_out: 1.0),
        f"{NOT_ACCEPTED} learner, module_id, config, **kwargs.",
    ),
    (returning(None), f"The loss is None.\n  {RETURN_A_SCALAR}"),
    (returning("1.0"), f"The loss is a str, not a real number.\n  {RETURN_A_SCALAR}"),
    (module_with(returns_later), "The loss method is async.\n  Define it without async."),
    (returning(Shaped()), f"The loss has shape (4,), expected ().\n  {RETURN_A_SCALAR}"),
    (
        returning(float("nan")),
        "The loss is nan.\n  Look for a division by zero or a logarithm of zero.",
    ),
    (
        module_with(logs_an_array),
        "The value logged as ('module', 'errors') has shape (4,), expected ().\n  Log a scalar.",
    ),
]


@pytest.mark.parametrize(("module", "message"), VIOLATIONS, ids=[text for _, text in VIOLATIONS])
def test_a_violation_gets_one_message(module, message):
    (found,) = violations_of(module)
    assert found.startswith(message)


def test_a_class_is_a_violation_and_its_forward_pass_is_not_run():
    (message,) = violations_of(Sound, fwd_out=lambda module: 1 / 0)
    assert message.startswith(f"Sound {NOT_THE_API} Sound is a class.")


EXCEPTIONS = [
    (
        lambda self, **kwargs: getattr(self, "mean\nof the errors"),
        "AttributeError: 'Module' object has no attribute 'mean",
    ),
    (
        lambda self, *, target, **kwargs: target,
        "TypeError: <lambda>() missing 1 required keyword-only argument: 'target'\n"
        "  Pass it to check_module, too.",
    ),
    (
        lambda self, *, learner, module_id, config, batch, fwd_out, **more: Fraction(**more),
        "TypeError: Fraction.__new__() got an unexpected keyword argument 'an_extra_argument'\n"
        "  Some learners pass more arguments. Accept them, but do not pass them on.",
    ),
    (
        lambda self, *, learner, **kwargs: learner.device,
        "AttributeError: not every learner has `.device` here. "
        "Use only `module`, `config` and `metrics`.",
    ),
    (
        lambda self, *, learner, **kwargs: learner.metrics.peek("loss"),
        "AttributeError: not every learner has `.peek` here. Use only `log_value` and `log_dict`.",
    ),
    (
        lambda self, *, config, **kwargs: config["beta"],
        "TypeError: 'NoneType' object is not subscriptable\n"
        "  If `config` is None here, pass config= to check_module.",
    ),
    (lambda self, *, batch, **kwargs: batch[None], "KeyError: None"),
]


@pytest.mark.parametrize(("loss_method", "error"), EXCEPTIONS, ids=[text for _, text in EXCEPTIONS])
def test_an_exception_is_a_violation(loss_method, error):
    message = f"compute_self_supervised_loss raised {error}"
    assert violations_of(module_with(loss_method)) == [message]


def test_a_none_in_the_configuration_gets_no_advice_to_pass_one():
    (message,) = violations_of(
        module_with(lambda self, *, config, **kwargs: config["beta"].shape), config={"beta": None}
    )
    assert message.endswith("AttributeError: 'NoneType' object has no attribute 'shape'")


def test_all_violations_are_listed_at_once_and_no_hint():
    class Broken:
        def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out):
            batch["obs"].clear()
            batch["error"] = 0.0
            learner.metrics.log_value("of which module?", Shaped())
            return {"loss": 1.0}

    faults = [message.split("\n")[0] for message in violations_of(Broken(), batch={"obs": [1.0]})]
    assert faults == [
        "Broken does not implement SelfSupervisedLossAPI.",
        "compute_self_supervised_loss does not accept **kwargs.",
        "The loss method changed batch['obs'].",
        "The loss method changed batch['error'].",
        "The loss is a dict, not a real number.",
        "The value logged as ('of which module?',) has shape (4,), expected ().",
    ]


def test_every_check_is_listed_in_the_order_of_the_file():
    defined = [
        name
        for name, value in vars(_checks).items()
        if getattr(value, "__module__", "") == _checks.__name__ and not name.startswith("_")
    ]
    listed = [check.__name__ for check in (*_checks.VIOLATIONS, *_checks.HINTS)]
    unlisted = [name for name in defined if name not in listed]
    assert not unlisted, f"enter {unlisted} in VIOLATIONS or HINTS; helpers begin with _"
    assert listed == defined, "VIOLATIONS and HINTS must have the order of the file"


# Where an exception was raised


def fails(self):
    return Fraction("half")  # raises in another file


def calls_a_function(self, **kwargs):
    return fails(self)


@contextmanager
def managed():
    yield


@managed()
def compute_self_supervised_loss(self, **kwargs):
    return fails(self)


@pytest.mark.parametrize("loss_method", [calls_a_function, compute_self_supervised_loss])
def test_an_exception_is_the_cause_and_its_last_line_in_the_file_is_named(loss_method):
    with pytest.raises(AssertionError) as raised:
        check(module_with(loss_method))
    assert isinstance(raised.value.__cause__, ValueError)
    assert str(raised.value).endswith(f"\n  at {__file__}:{fails.__code__.co_firstlineno + 1}")


@pytest.mark.parametrize(
    "loss_method", [lambda self, **kwargs: 1 / 0, lambda self, *, learner, **kwargs: learner.device]
)
def test_pytest_shows_no_frame_of_the_check(loss_method):
    with pytest.raises(AssertionError) as raised:
        check_module(module_with(loss_method), batch={}, fwd_out={})
    for shown in map(pytest.ExceptionInfo.from_exception, (raised.value, raised.value.__cause__)):
        assert {str(entry.path) for entry in shown.traceback.filter(shown)} == {__file__}


def test_an_interrupt_passes_through():
    def interrupt(batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(changing("batch", interrupt))


# Hints


def test_a_metric_that_other_modules_may_share_is_a_hint():
    def loss_method(self, *, learner, **kwargs):
        learner.metrics.log_value("loss", 1.0)
        learner.metrics.log_dict({"terms": {"error": 2.0}})
        return 1.0

    assert hints_of(module_with(loss_method), module_id="icm") == [
        "The key ('loss',) does not begin with the module ID.\n"
        "  Other modules may log under it, too. Use ('icm', 'loss').",
        "The key ('terms', 'error') does not begin with the module ID.\n"
        "  Other modules may log under it, too. Use ('icm', 'terms', 'error').",
    ]
