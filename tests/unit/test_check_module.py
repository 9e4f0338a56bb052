"""`check_module` in plain Python: one small module for each mistake, and what it says about it."""

import functools
import sys
from collections import deque, namedtuple
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from unit.messages import hints_of, violations_of

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import _checks, check_module


def module_with(loss_method, **members):
    members["compute_self_supervised_loss"] = loss_method
    return type("Module", (SelfSupervisedLossAPI,), members)()


def returning(loss):
    return module_with(lambda self, **kwargs: loss)


def changing(name, change):
    """Makes a module whose loss method changes `batch` or `fwd_out`."""
    return module_with(lambda self, **arguments: (change(arguments[name]), 1.0)[1])


def check(module, **arguments):
    return check_module(module, **{"batch": {}, "fwd_out": {}} | arguments)


def violations(module, **arguments):
    return violations_of(module, **{"batch": {}, "fwd_out": {}} | arguments)


# Correct modules


class Sound(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        assert learner.module[module_id] is self
        assert learner.config is config
        loss = sum((a - b) ** 2 for a, b in zip(fwd_out["prediction"], batch["obs"], strict=True))
        learner.metrics.log_value((module_id, "loss"), loss, window=1)
        learner.metrics.log_value(f"{module_id}/loss", loss)
        terms = {"terms": {"error": loss}}
        learner.metrics.log_dict(terms, key=module_id, reduce="ema", ema_coeff=0.1)
        return config["scale"] * loss


@pytest.mark.parametrize("fwd_out", [{"prediction": [2.0, 4.0]}, lambda _: {"prediction": [2, 4]}])
def test_a_correct_module_gets_no_message_and_its_loss_is_returned(fwd_out):
    arguments = {"batch": {"obs": [1.0, 2.0]}, "config": {"scale": 2.0}, "module_id": "icm"}
    assert check(Sound(), fwd_out=fwd_out, **arguments) == 10.0


def test_a_wrapped_module_passes():
    def loss_method(self, *, learner, module_id, fwd_out, **kwargs):
        assert learner.module[module_id] is wrapper
        return fwd_out["loss"]

    class Wrapper:
        def unwrapped(self):
            return module_with(loss_method)

    wrapper = Wrapper()
    assert check(wrapper, fwd_out=lambda module: {"loss": float(module is wrapper)}) == 1.0


def without_extras(loss_method):
    @functools.wraps(loss_method)
    def called(self, *, learner, module_id, config, batch, fwd_out, **extras):
        return loss_method(self, learner, module_id, config, batch, fwd_out)

    return called


UNUSUAL = {
    "decorator that drops extras": without_extras(
        lambda self, learner, module_id, config, batch, fwd_out: 1.0
    ),
    "optional attribute": lambda self, *, learner, **kwargs: getattr(learner, "scale", 1.0),
    "no config": lambda self, *, config, **kwargs: 1.0 if config is None else config.beta,
    "optional argument": lambda self, *, timestep=1.0, **kwargs: timestep,
}


@pytest.mark.parametrize("loss_method", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_loss_method_passes(loss_method):
    # torch has a method `parameters`; other classes may give the name another meaning.
    assert check(module_with(loss_method, parameters=property(lambda self: 1 / 0))) == 1.0


def test_keyword_arguments_reach_the_loss_method():
    module = module_with(lambda self, *, timestep, **kwargs: 2.0 * timestep)
    assert check(module, timestep=3) == 6.0


@pytest.mark.parametrize("loss", [1, True, 0.5, Fraction(1, 3)])
def test_any_real_number_is_a_scalar(loss):
    assert check(returning(loss)) is loss


@pytest.mark.parametrize("library", ["torch", "torch.overrides", "jax", "numpy"])
def test_no_library_needs_to_be_imported(library, monkeypatch):
    monkeypatch.delitem(sys.modules, library, raising=False)
    assert check(returning(1.0)) == 1.0


class Circular(dict):
    """Contains itself, as an episode does if its steps refer to it."""

    def __init__(self):
        super().__init__(itself=self, again=self)


class Caches:
    """Computes results once, as distributions do."""

    def __init__(self):
        self._last = None, None

    @functools.cached_property
    def entropy(self):
        self._last = 1.0, 2.0
        return 1.0


class LooksLikeAnArray:
    shape = (2,)

    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Unreadable:
    """Fails to show its attributes."""

    __slots__ = ("values",)

    @property
    def __dict__(self):
        raise ValueError("no attributes")


READINGS = {
    "array that cannot be copied": (LooksLikeAnArray(), lambda data: data.shape),
    "circular": (Circular(), lambda data: data["itself"]),
    "object in a dict": ({"dist": Caches()}, lambda data: data["dist"].entropy),
    "generator": ([(n for n in range(3))], list),
    "unreadable": (Unreadable(), repr),
}


@pytest.mark.parametrize(("data", "read"), READINGS.values(), ids=READINGS)
def test_reading_the_input_does_not_change_it(data, read):
    check(changing("batch", lambda batch: read(batch["data"])), batch={"data": data})


# Violations


class Unrelated: ...


@SelfSupervisedLossAPI.register
class Registered: ...


class Forwards:
    def __getattr__(self, name):
        return getattr(returning(1.0), name)


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        (Unrelated(), "Derive Unrelated from SelfSupervisedLossAPI"),
        (Forwards(), "Forwards is an unknown wrapper."),
        (Sound, "Sound is a class."),
    ],
)
def test_a_module_that_does_not_implement_the_api_is_a_violation(module, advice):
    (message,) = violations(module, fwd_out=lambda module: {})
    name = advice.split()[advice.startswith("Derive")]
    assert message.startswith(f"{name} does not implement SelfSupervisedLossAPI.\n  {advice}")


def test_a_wrapper_that_cannot_be_unwrapped_raises_its_own_error():
    class FailsToUnwrap:
        def unwrapped(self):
            raise ValueError("nothing inside")

    with pytest.raises(ValueError, match="nothing inside"):
        check(FailsToUnwrap())


def divides_by_zero(self, **kwargs):
    return 1 / 0


def raises_on_two_lines(self, **kwargs):
    raise ValueError("bad simplex:\ntensor(...)")


def takes_a_target(self, *, target, **kwargs):
    return 1.0


def passes_extras_on(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
    return (lambda: 1.0)(**kwargs)


def logs_an_array(self, *, learner, module_id, **kwargs):
    learner.metrics.log_value((module_id, "errors"), Shaped())
    learner.metrics.log_dict({"loss": 1.0}, key=module_id)
    return 1.0


class Shaped(float):
    """A number with the shape of an array."""

    shape = (4,)


Transition = namedtuple("Transition", "obs action")


def does_not_accept(names):
    advice = "Learners pass all arguments of the API, and RLlib's TorchMetaLearner passes more."
    return f"compute_self_supervised_loss does not accept {names}.\n  {advice}"


def raised(error):
    return f"compute_self_supervised_loss raised {error}"


RETURN_A_SCALAR = "Return one scalar, and log any other values."
LOOK_FOR_ZERO = "Look for a division by zero or a logarithm of zero."

VIOLATIONS = [
    (
        Registered(),
        "Registered has no method compute_self_supervised_loss.\n"
        "  Define it with the parameters that it has in SelfSupervisedLossAPI.",
    ),
    (
        module_with(lambda self, *, learner, module_id, config, batch, fwd_out: 1.0),
        does_not_accept("**kwargs"),
    ),
    (
        module_with(lambda self, *, batch, fwd_out: 1.0),
        does_not_accept("learner, module_id, config, **kwargs"),
    ),
    (
        module_with(lambda self, learner, /, module_id, config, batch, fwd_out: 1.0),
        does_not_accept("learner, **kwargs"),
    ),
    (module_with(divides_by_zero), raised("ZeroDivisionError: division by zero")),
    (module_with(raises_on_two_lines), raised("ValueError: bad simplex:")),
    (
        module_with(takes_a_target),
        raised(
            "TypeError: takes_a_target() missing 1 required keyword-only argument: 'target'\n"
            "  Pass it to check_module, too."
        ),
    ),
    (
        module_with(passes_extras_on),
        raised(
            "TypeError: passes_extras_on.<locals>.<lambda>() got an unexpected keyword argument "
            "'an_extra_argument'\n"
            "  Some learners pass more arguments. Accept them, but do not pass them on."
        ),
    ),
    (
        module_with(lambda self, *, learner, **kwargs: learner.device),
        raised(
            "AttributeError: not every learner has `.device` here. "
            "Use only `module`, `config` and `metrics`."
        ),
    ),
    (
        module_with(lambda self, *, learner, **kwargs: learner.metrics.peek("loss")),
        raised(
            "AttributeError: not every learner has `.peek` here. "
            "Use only `log_value` and `log_dict`."
        ),
    ),
    (
        module_with(lambda self, *, config, **kwargs: config["beta"]),
        raised(
            "TypeError: 'NoneType' object is not subscriptable\n"
            "  If `config` is None here, pass config= to check_module."
        ),
    ),
    (returning(None), f"The loss is None.\n  {RETURN_A_SCALAR}"),
    (returning("1.0"), f"The loss is a str, not a real number.\n  {RETURN_A_SCALAR}"),
    (returning(Shaped()), f"The loss has shape (4,), expected ().\n  {RETURN_A_SCALAR}"),
    (returning(float("nan")), f"The loss is nan.\n  {LOOK_FOR_ZERO}"),
    (returning(float("inf")), f"The loss is inf.\n  {LOOK_FOR_ZERO}"),
    (
        module_with(logs_an_array),
        "The value logged as ('module', 'errors') has shape (4,), expected ().\n  Log a scalar.",
    ),
]


@pytest.mark.parametrize(("module", "message"), VIOLATIONS, ids=lambda value: str(value)[:70])
def test_a_violation_gets_one_message(module, message):
    assert violations(module) == [message]


@pytest.mark.parametrize(
    ("arguments", "fault", "form"),
    [
        ({"batch": [1.0]}, "batch must be a mapping, got list.", "a dict"),
        ({"fwd_out": None}, "fwd_out must be a mapping, got NoneType.", "a dict"),
        ({"fwd_out": lambda _: (1,)}, "fwd_out must be a mapping, got tuple.", "a dict"),
        (
            {"batch": Transition(1, 2)},
            "batch must be a mapping, got Transition.",
            "batch._asdict()",
        ),
    ],
)
def test_input_that_is_not_a_mapping_is_a_violation(arguments, fault, form):
    messages = violations(module_with(divides_by_zero), **arguments)
    assert messages == [f"{fault}\n  Pass {form}. The loss method was not called."]


NONES = {
    "configuration": lambda self, *, config, **kwargs: 2.0 * config["beta"],
    "metric": lambda self, *, learner, **kwargs: learner.metrics.log_value(None, 1.0),
    "column": lambda self, *, batch, **kwargs: batch[None],
}


@pytest.mark.parametrize("loss_method", NONES.values(), ids=NONES)
def test_a_none_that_is_not_the_configuration_gets_no_advice(loss_method):
    (message,) = violations(module_with(loss_method), config={"beta": None})
    assert "raised" in message and "config=" not in message


class Array:
    """Has a shape and a type."""

    def __init__(self, *shape, dtype="float32"):
        self.shape, self.dtype = shape, dtype

    def __repr__(self):  # for the names of the cases
        return f"Array{self.shape}"


def obs(*shape, **arguments):
    return {"obs": Array(*shape, **arguments)}


def mask(*shape):
    return {"loss_mask": Array(*shape)}


def rewards(*shape):
    return {"rewards": Array(*shape)}


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (obs(8, 4), [(8,)]),
        (obs(8, 1), [(8,)]),
        (obs(8, 5, 4), [(8,), (8, 5)]),
        (obs(8, dtype="int64"), [(8,)]),
        (obs(8, 1, dtype="int64"), [(8,)]),
        (obs(8, 5, dtype="int64"), [(8,), (8, 5)]),
        ({"new_obs": Array(8, 4)}, [(8,)]),
        (obs(8, 5, 4) | mask(8, 5), [(8, 5)]),
        (obs(6, 8, 4) | mask(5, 8), [(5, 8)]),
        (obs(8, 4) | rewards(8), [(8,)]),
        (obs(6, 8, 4) | rewards(5, 8), [(5, 8)]),
        (obs(8, 5, 2, 4) | rewards(8, 5, 2) | mask(8, 5), [(8, 5, 2)]),
        (obs(8, 4) | rewards(8, 1), [(8, 1)]),
    ],
    ids=str,
)
def test_intrinsic_rewards_have_the_shape_of_the_rewards(batch, expected):
    for shape in ((), (8,), (8, 1), (8, 4), (8, 5), (5, 8), (8, 5, 1), (8, 5, 2)):
        fwd_out = {"intrinsic_rewards": Array(*shape)}
        if shape in expected:
            check(returning(1.0), batch=batch, fwd_out=fwd_out)
        else:
            names = " or ".join(map(str, expected))
            assert violations(returning(1.0), batch=batch, fwd_out=fwd_out) == [
                f"fwd_out['intrinsic_rewards'] has shape {shape}, expected {names}.\n"
                "  Return one reward for each row, to be added to batch['rewards']."
            ]


@pytest.mark.parametrize("batch", [{}, {"obs": [1.0]}])
def test_intrinsic_rewards_of_an_unknown_batch_have_one_or_two_axes(batch):
    for values in (Array(8), Array(8, 5), [1.0] * 8):
        check(returning(1.0), batch=batch, fwd_out={"intrinsic_rewards": values})
    for values in (Array(), Array(8, 5, 1)):
        fwd_out = {"intrinsic_rewards": values}
        (message,) = violations(returning(1.0), batch=batch, fwd_out=fwd_out)
        assert "expected (B,) or (B, T)." in message


@pytest.mark.parametrize(
    ("batch", "fwd_out"),
    [
        (obs(8, 4), {}),
        (obs(8, 1), {}),
        (rewards(8), {}),
        ({"actions": Array(8)}, {}),
        ({}, {"intrinsic_rewards": Array(8)}),
        (obs(8, 4), {"intrinsic_rewards": Array(8)}),
    ],
    ids=str,
)
def test_a_loss_mask_in_a_column_is_a_violation(batch, fwd_out):
    assert violations(returning(1.0), batch=batch | mask(8, 1), fwd_out=fwd_out) == [
        "batch['loss_mask'] has shape (8, 1), expected (8,).\n"
        "  Squeeze its last axis: it would broadcast against the rows."
    ]


@pytest.mark.parametrize(
    "batch", [obs(8, 1, 4) | mask(8, 1), obs(8, 5, 4) | mask(8, 5), mask(8, 1), mask(8)], ids=str
)
def test_a_loss_mask_with_one_time_step_is_correct(batch):
    check(returning(1.0), batch=batch)


CHANGES = {
    "added": (lambda data: data.update(new=None), "new"),
    "removed": (lambda data: data.pop("rewards"), "rewards"),
    "replaced": (lambda data: data.update(rewards=[1.5]), "rewards"),
    "changed": (lambda data: data["rewards"].append(2.0), "rewards"),
}


@pytest.mark.parametrize(("change", "key"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_a_change_of_the_input_is_a_violation(name, change, key):
    assert violations(changing(name, change), **{name: {"rewards": [1.0]}}) == [
        f"The loss method changed {name}[{key!r}].\n  Change a copy: other code may read it, too."
    ]


State = namedtuple("State", "hidden cell")


@dataclass(slots=True)
class Output:
    samples: Any


class Normal:
    """Has an attribute that is reached through a private one, too."""

    def __init__(self):
        self.mean, self._params = 0.0, {"scale": [1.0]}


INNER_CHANGES = {
    "dict in a named tuple": (State([1.0], {}), lambda data: data.cell.update(loss=1.0)),
    "set in a dataclass": (Output([{2.0}]), lambda data: data.samples[0].add(3.0)),
    "attribute of a dataclass": (Output([2.0]), lambda data: setattr(data, "samples", [2.5])),
    "list of iterators": ([iter(())], lambda data: data.__setitem__(0, iter(()))),
    "deque": (deque([1.0]), deque.clear),
    "one of two equal numbers": ([1, 1], lambda data: data.__setitem__(1, 2)),
    "attribute": (Normal(), lambda data: setattr(data, "mean", 1.0)),
    "attribute removed": (Normal(), lambda data: delattr(data, "mean")),
    "list in a private one": (Normal(), lambda data: data._params["scale"].append(1.0)),
}


@pytest.mark.parametrize(("data", "change"), INNER_CHANGES.values(), ids=INNER_CHANGES)
def test_a_change_inside_any_container_is_found(data, change):
    module = changing("batch", lambda batch: change(batch["data"]))
    (message,) = violations(module, batch={"data": data})
    assert message.startswith("The loss method changed batch['data'].")


def test_all_violations_are_listed_at_once_and_no_hint():
    class Broken:
        def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out):
            batch["obs"].clear()
            batch["error"] = 0.0
            learner.metrics.log_value("of which module?", Shaped())
            return {"loss": 1.0}

    faults = [message.split("\n")[0] for message in violations(Broken(), batch={"obs": [1.0]})]
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
    assert listed == defined, "a check is missing from VIOLATIONS and HINTS, or out of order"


# Where an exception was raised


def calls_a_method(self, **kwargs):
    return self.mean()


def fails_below(self):
    return Fraction("half")


@pytest.mark.parametrize(
    ("loss_method", "error"), [(divides_by_zero, ZeroDivisionError), (calls_a_method, ValueError)]
)
def test_an_exception_is_the_cause_and_its_last_line_in_the_file_is_named(loss_method, error):
    with pytest.raises(AssertionError) as raised:
        check(module_with(loss_method, mean=fails_below))
    assert isinstance(raised.value.__cause__, error)
    fails = divides_by_zero if loss_method is divides_by_zero else fails_below
    assert str(raised.value).endswith(f"\n  at {__file__}:{fails.__code__.co_firstlineno + 1}")


@pytest.mark.parametrize(
    "loss_method",
    [
        divides_by_zero,
        lambda self, *, learner, **kwargs: learner.device,
        lambda self, **kwargs: None,
    ],
)
def test_pytest_shows_no_frame_of_the_check(loss_method):
    with pytest.raises(AssertionError) as raised:
        check_module(module_with(loss_method), batch={}, fwd_out={})
    errors = filter(None, [raised.value, raised.value.__cause__])
    for shown in map(pytest.ExceptionInfo.from_exception, errors):
        assert {str(entry.path) for entry in shown.traceback.filter(shown)} == {__file__}


def test_an_interrupt_passes_through():
    def interrupt(batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(changing("batch", interrupt))


# Hints


def test_a_metric_that_other_modules_may_share_is_a_hint():
    def loss_method(self, *, learner, module_id, **kwargs):
        learner.metrics.log_value("loss", 1.0)
        learner.metrics.log_dict({"terms": {"error": 2.0}})
        learner.metrics.log_value((module_id, "loss"), 1.0)
        return 1.0

    assert hints_of(module_with(loss_method), batch={}, fwd_out={}, module_id="icm") == [
        "The key ('loss',) does not begin with the module ID.\n"
        "  Other modules may log under it, too. Use ('icm', 'loss').",
        "The key ('terms', 'error') does not begin with the module ID.\n"
        "  Other modules may log under it, too. Use ('icm', 'terms', 'error').",
    ]
