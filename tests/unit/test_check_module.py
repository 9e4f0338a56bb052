"""What `check_module` finds in plain Python: one small module per mistake, and what it is told."""

import functools
import random
import re
import sys
import warnings
from collections import namedtuple
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


def module_with(loss_method):
    return type("Module", (SelfSupervisedLossAPI,), {"compute_self_supervised_loss": loss_method})()


def sentences_about(module, *, batch=None, fwd_out=None, **arguments):
    """The lines of the one error that lists all violations, without where they were raised."""
    with pytest.raises(AssertionError) as raised:
        check_module(
            module, batch={} if batch is None else batch, fwd_out=fwd_out or {}, **arguments
        )
    title, *sentences = str(raised.value).splitlines()
    assert title == f"{type(module).__name__} breaks the contract of SelfSupervisedLossAPI:"
    return [re.sub(r" \(\S+\.py:\d+\)", "", sentence.removeprefix("- ")) for sentence in sentences]


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
    assert check_module(wrapper, batch={}, fwd_out={}) == 1.0


def test_a_registered_class_passes():
    @SelfSupervisedLossAPI.register
    class Registered:
        def compute_self_supervised_loss(self, **kwargs):
            return 1.0

    assert check_module(Registered(), batch={}, fwd_out={}) == 1.0


@pytest.mark.parametrize(
    "parameters", [lambda self: [0.5], lambda self, rng: [0.5], [0.5], property(lambda self: 1 / 0)]
)
def test_parameters_that_are_not_torchs_are_left_alone(parameters):
    module_class = type(module_with(lambda self, **kwargs: 1.0))
    assert (
        check_module(
            type("Module", (module_class,), {"parameters": parameters})(), batch={}, fwd_out={}
        )
        == 1.0
    )


def test_a_decorator_that_drops_what_else_a_learner_passes():
    def without_extras(loss_method):
        @functools.wraps(loss_method)
        def called(self, *, learner, module_id, config, batch, fwd_out, **extras):
            return loss_method(self, learner, module_id, config, batch, fwd_out)

        return called

    @without_extras
    def loss_method(self, learner, module_id, config, batch, fwd_out):
        return 1.0

    assert check_module(module_with(loss_method), batch={}, fwd_out={}) == 1.0


def test_a_module_may_make_use_of_what_some_learners_have():
    module = module_with(lambda self, *, learner, **kwargs: getattr(learner, "scale", 1.0))
    assert check_module(module, batch={}, fwd_out={}) == 1.0


@pytest.mark.parametrize("loss", [1, True, 0.5, Fraction(1, 3)])
def test_any_real_number_is_a_scalar(loss):
    assert check_module(module_with(lambda self, **kwargs: loss), batch={}, fwd_out={}) is loss


def test_the_random_state_is_as_before():
    random.seed(0)
    expected = random.random()
    random.seed(0)
    check_module(module_with(lambda self, **kwargs: random.random()), batch={}, fwd_out={})
    assert random.random() == expected


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
        ((KeepsResults(),), lambda data: data[0].entropy),
        ({"dist": KeepsResults()}, lambda data: data["dist"].entropy),
        ([(n for n in range(3))], list),
    ],
    ids=[
        "array that cannot be copied",
        "circular",
        "object in a tuple",
        "object in a dict",
        "generator",
    ],
)
def test_input_that_is_only_read_is_not_changed(data, read):
    def loss_method(self, *, batch, **kwargs):
        read(batch["data"])
        return 1.0

    assert check_module(module_with(loss_method), batch={"data": data}, fwd_out={}) == 1.0


# What is a violation


class Unrelated: ...


class DuckTyped:
    def compute_self_supervised_loss(self, **kwargs):
        return None


class Forwards:
    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name)


@SelfSupervisedLossAPI.register
class Registered: ...


DERIVE = (
    "{0} does not implement SelfSupervisedLossAPI. Derive {0} from SelfSupervisedLossAPI, or "
    "register it with SelfSupervisedLossAPI.register."
)
IS_NONE = "the loss is None. Return one scalar, and log what else there is."


@pytest.mark.parametrize(
    ("module", "sentences"),
    [
        (Unrelated(), [DERIVE.format("Unrelated")]),
        (DuckTyped(), [DERIVE.format("DuckTyped"), IS_NONE]),
        (Registered(), ["Registered has no method compute_self_supervised_loss. Write it."]),
        (
            Forwards(Sound()),
            [
                "Forwards does not implement SelfSupervisedLossAPI. Forwards is a wrapper that is "
                "not known: give the learner the module inside, or give Forwards a method "
                "unwrapped() that returns it."
            ],
        ),
    ],
    ids=["unrelated", "duck-typed", "registered without a method", "unknown wrapper"],
)
def test_a_class_that_does_not_implement_the_api(module, sentences):
    batch, fwd_out = {"obs": [1.0]}, {"prediction": [2.0]}
    with warnings.catch_warnings(record=True) as warned:
        found = sentences_about(module, batch=batch, fwd_out=fwd_out)
    assert found[: len(sentences)] == sentences
    assert not warned


def test_a_class_in_place_of_a_module():
    with pytest.raises(AssertionError) as raised:
        check_module(Sound, batch={}, fwd_out={})
    assert str(raised.value) == (
        "Sound breaks the contract of SelfSupervisedLossAPI:\n"
        "- Sound does not implement SelfSupervisedLossAPI. Sound is a class: write Sound(...)."
    )


@pytest.mark.parametrize(
    ("batch", "fwd_out", "sentences"),
    [
        ([1.0], {}, ["batch is no mapping but a list. {}"]),
        ({}, (1.0,), ["fwd_out is no mapping but a tuple. {}"]),
        (
            None,
            1.0,
            ["batch is no mapping but a NoneType. {}", "fwd_out is no mapping but a float. {}"],
        ),
    ],
)
def test_input_that_is_no_mapping(batch, fwd_out, sentences):
    remedy = "Give each array a name, as in a dict: the loss method was not called."
    with pytest.raises(AssertionError) as raised:
        check_module(module_with(divides_by_zero), batch=batch, fwd_out=fwd_out)
    _, *found = str(raised.value).splitlines()
    assert found == [f"- {sentence.format(remedy)}" for sentence in sentences]


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
            check_module(module, batch=batch, fwd_out=fwd_out)
        else:
            assert sentences_about(module, batch=batch, fwd_out=fwd_out) == [
                f"fwd_out['intrinsic_rewards'] has shape {shape}. Make one for each row, of shape "
                "(B,) or, over time, (B, T)."
            ]
    check_module(module, batch=batch, fwd_out={"intrinsic_rewards": [1.0] * 8})


@pytest.mark.parametrize("library", ["torch", "numpy.random"])
def test_a_library_that_is_not_imported_is_not_needed(library, monkeypatch):
    monkeypatch.delitem(sys.modules, library, raising=False)
    assert check_module(module_with(lambda self, **kwargs: 1.0), batch={}, fwd_out={}) == 1.0


def test_a_module_that_cannot_be_looked_into_gives_the_error_of_its_own():
    class FailsToUnwrap:
        def unwrapped(self):
            raise ValueError("nothing inside")

    with pytest.raises(ValueError, match="nothing inside"):
        check_module(FailsToUnwrap(), batch={}, fwd_out={})


def no_kwargs(self, *, learner, module_id, config, batch, fwd_out):
    return 1.0


def passes_extras_on(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
    return (lambda: 1.0)(**kwargs)


def lacks_fwd_out(self, *, learner, module_id, config, batch, forward_out=None):
    return 1.0


def takes_more(self, *, learner, module_id, config, batch, fwd_out, target_net, **kwargs):
    return 1.0


def asks_the_learner_for_more(self, *, learner, **kwargs):
    return learner.device


def asks_the_logger_for_more(self, *, learner, **kwargs):
    return learner.metrics.peek("loss")


def divides_by_zero(self, **kwargs):
    return 1 / 0


def reads_an_attribute_of_config(self, *, config, **kwargs):
    return config.beta


def reads_an_item_of_config(self, *, config, **kwargs):
    return config["beta"]


def counts_with_config(self, *, config, **kwargs):
    return 2.0 * config


def logs_under_a_number(self, *, learner, **kwargs):
    learner.metrics.log_value(3, 1.0)
    return 1.0


class Shaped(float):
    """A number with the shape of an array."""

    shape = (4,)

    def __sub__(self, other):
        return self


def logs_a_row(self, *, learner, module_id, **kwargs):
    learner.metrics.log_value((module_id, "error"), Shaped())
    return 1.0


def logs_a_complex_number(self, *, learner, module_id, **kwargs):
    learner.metrics.log_dict({"loss": 1.0, "error": 1j}, key=module_id)
    return 1.0


RAISED = "compute_self_supervised_loss raised"
PASS_CONFIG = "If that is config, pass config= to check_module."


@pytest.mark.parametrize(
    ("loss_method", "sentence"),
    [
        (
            no_kwargs,
            "there is no **kwargs. Add it, since some learners pass more, as RLlib's "
            "TorchMetaLearner does.",
        ),
        (
            passes_extras_on,
            f"{RAISED} TypeError: passes_extras_on.<locals>.<lambda>() got an unexpected "
            "keyword argument 'an_extra_argument'",
        ),
        (
            takes_more,
            f"{RAISED} TypeError: takes_more() missing 1 required keyword-only argument: "
            "'target_net'",
        ),
        (
            asks_the_learner_for_more,
            f"{RAISED} AttributeError: not every learner has .device there. Ask for no "
            "more than module, config, metrics.",
        ),
        (
            asks_the_logger_for_more,
            f"{RAISED} AttributeError: not every learner has .peek there. Ask for no more "
            "than log_value, log_dict.",
        ),
        (
            divides_by_zero,
            f"{RAISED} ZeroDivisionError: division by zero",
        ),
        (
            reads_an_attribute_of_config,
            f"{RAISED} AttributeError: 'NoneType' object has no attribute 'beta'. " + PASS_CONFIG,
        ),
        (
            reads_an_item_of_config,
            f"{RAISED} TypeError: 'NoneType' object is not subscriptable. {PASS_CONFIG}",
        ),
        (
            counts_with_config,
            f"{RAISED} TypeError: unsupported operand type(s) for *: 'float' and "
            f"'NoneType'. {PASS_CONFIG}",
        ),
        (
            logs_under_a_number,
            f"{RAISED} TypeError: the key of a metric is a string or a tuple of strings, not 3",
        ),
        (
            logs_a_row,
            "the value logged as ('module', 'error') has shape (4,), not (). Log a scalar.",
        ),
        (
            logs_a_complex_number,
            "the value logged as ('module', 'error') is a complex, not a real number. "
            "Log a scalar.",
        ),
        (
            lambda self, **kwargs: None,
            "the loss is None. Return one scalar, and log what else there is.",
        ),
        (
            lambda self, **kwargs: {"forward": 1.0, "inverse": 2.0},
            "the loss is a dict, not a real number. Return one scalar, and log what else there is.",
        ),
        (
            lambda self, **kwargs: "1.0",
            "the loss is a str, not a real number. Return one scalar, and log what else there is.",
        ),
        (
            lambda self, **kwargs: Shaped(),
            "the loss has shape (4,), not (). Return one scalar, and log what else there is.",
        ),
        (
            lambda self, **kwargs: float("nan"),
            "the loss is nan. Look for a division by zero or a logarithm of zero.",
        ),
        (
            lambda self, **kwargs: float("inf"),
            "the loss is inf. Look for a division by zero or a logarithm of zero.",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_gets_one_sentence(loss_method, sentence):
    assert sentences_about(module_with(loss_method)) == [sentence]


def test_a_method_that_lacks_a_parameter():
    missing_kwargs, missing_parameter = sentences_about(module_with(lacks_fwd_out))
    assert missing_kwargs.startswith("there is no **kwargs.")
    assert missing_parameter.endswith(
        "lacks_fwd_out() got an unexpected keyword argument 'fwd_out'"
    )


def test_a_method_with_positional_only_parameters():
    def loss_method(self, batch, fwd_out, /, learner, module_id, config, **kwargs):
        return 1.0

    (sentence,) = sentences_about(module_with(loss_method))
    assert sentence.endswith("missing 2 required positional arguments: 'batch' and 'fwd_out'")


def test_a_value_none_that_is_not_the_configuration_is_not_blamed_on_it():
    module = module_with(lambda self, *, config, **kwargs: config["beta"])
    (sentence,) = sentences_about(module, config={"beta": None})
    assert sentence == "the loss is None. Return one scalar, and log what else there is."
    module = module_with(lambda self, *, config, **kwargs: 2.0 * config["beta"])
    (sentence,) = sentences_about(module, config={"beta": None})
    assert "NoneType" in sentence and "config=" not in sentence


def test_a_module_that_takes_no_configuration_for_an_answer():
    module = module_with(lambda self, *, config, **kwargs: 1.0 if config is None else config.beta)
    assert check_module(module, batch={}, fwd_out={}) == 1.0


# Where something was raised


def test_an_error_names_the_line_that_raised_it_and_stays_the_cause():
    with pytest.raises(AssertionError) as raised:
        check_module(module_with(divides_by_zero), batch={}, fwd_out={})
    line = divides_by_zero.__code__.co_firstlineno + 1
    assert f"compute_self_supervised_loss ({__file__}:{line}) raised ZeroDivisionError" in str(
        raised.value
    )
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_error_below_the_loss_method_names_the_last_line_in_its_file():
    class Module(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, batch, **kwargs):
            return self.mean(batch["rewards"])

        def mean(self, values):
            return functools.reduce(lambda a, b: a + b, values) + Fraction("half")

    with pytest.raises(AssertionError) as raised:
        check_module(Module(), batch={"rewards": [1.0]}, fwd_out={})
    assert f"({__file__}:{Module.mean.__code__.co_firstlineno + 1}) raised ValueError" in str(
        raised.value
    )


@pytest.mark.parametrize(
    "loss_method", [divides_by_zero, asks_the_learner_for_more, lambda self, **kwargs: None]
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
        check_module(module_with(loss_method), batch={}, fwd_out={})


# Input that is not left as it was

State = namedtuple("State", "hidden cell")


@dataclass(slots=True)
class Output:
    mean: Any


def add(data):
    data["new"] = None


def remove(data):
    del data["rewards"]


def replace(data):
    data["rewards"] = [1.5]


def append(data):
    data["rewards"].append(2.0)


@pytest.mark.parametrize(
    ("change", "key"),
    [(add, "new"), (remove, "rewards"), (replace, "rewards"), (append, "rewards")],
)
@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_input_that_is_not_left_as_it_was(name, change, key):
    def loss_method(self, **inputs):
        change(inputs[name])
        return 1.0

    assert sentences_about(module_with(loss_method), **{name: {"rewards": [1.0]}}) == [
        f"{name}[{key!r}] is not as before. Leave the input as it is."
    ]


@pytest.mark.parametrize(
    ("data", "change"),
    [
        ({"world_model": {}}, lambda data: data["world_model"].update(loss=1.0)),
        (([1.0], [2.0]), lambda data: data[1].clear()),
        (State([1.0], {"a": 2.0}), lambda data: data.cell.clear()),
        (Output(1.0), lambda data: setattr(data, "mean", 2.0)),
        (Output(([1.0], {2.0})), lambda data: data.mean[1].add(3.0)),
        ([iter(())], lambda data: data.__setitem__(0, iter(()))),
    ],
    ids=[
        "nested dict",
        "tuple",
        "named tuple",
        "dataclass",
        "set in a dataclass",
        "list of what cannot be copied",
    ],
)
def test_a_change_within_any_container_is_found(data, change):
    def loss_method(self, *, batch, **kwargs):
        change(batch["data"])
        return 1.0

    (sentence,) = sentences_about(module_with(loss_method), batch={"data": data})
    assert sentence.startswith("batch['data'] is not as before.")


# What may be meant


def test_a_metric_that_other_modules_would_share_is_a_hint_with_the_key_to_use():
    def loss_method(self, *, learner, module_id, **kwargs):
        learner.metrics.log_value("loss", 1.0)
        learner.metrics.log_dict({"terms": {"error": 2.0}})
        learner.metrics.log_value((module_id, "loss"), 1.0)
        return 1.0

    with pytest.warns(UserWarning) as warned:
        assert check_module(module_with(loss_method), batch={}, fwd_out={}, module_id="icm") == 1.0
    (warning,) = warned
    assert str(warning.message).splitlines() == [
        "all modules that log ('loss',) would share it. Begin with module_id: ('icm', 'loss').",
        "all modules that log ('terms', 'error') would share it. "
        "Begin with module_id: ('icm', 'terms', 'error').",
    ]


def test_a_hint_points_at_the_call_of_check_module():
    def loss_method(self, *, learner, **kwargs):
        learner.metrics.log_value("loss", 1.0)
        return 1.0

    with pytest.warns(UserWarning) as warned:
        check_module(module_with(loss_method), batch={}, fwd_out={})
    assert warned[0].filename == __file__


def test_a_violation_is_not_hidden_by_a_hint():
    def loss_method(self, *, learner, **kwargs):
        learner.metrics.log_value("loss", 1.0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (sentence,) = sentences_about(module_with(loss_method))
    assert sentence.startswith("the loss is None.")


def test_all_violations_are_listed_at_once():
    class Broken:
        def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out):
            batch["obs"].clear()
            batch["error"] = 0.0
            learner.metrics.log_dict({"trace": Shaped()}, key=module_id)
            return {"loss": 1.0}

    sentences = sentences_about(Broken(), batch={"obs": [1.0]})
    beginnings = [
        "Broken does not implement",
        "there is no **kwargs",
        "batch['obs'] is",
        "batch['error'] is",
    ]
    beginnings += ["the loss is a dict", "the value logged as ('module', 'trace') has shape (4,)"]
    for sentence, beginning in zip(sentences, beginnings, strict=True):
        assert sentence.startswith(beginning)
