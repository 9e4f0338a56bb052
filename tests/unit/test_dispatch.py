"""Which loss each module gets, what its loss method is called with, and what a learner leaves
alone."""

import copy
import pickle
import threading
import warnings
from collections import ChainMap, OrderedDict, UserDict
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import pytest

import self_supervised_loss
from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI


class Curious(SelfSupervisedLossAPI):
    """Brings a loss that tells what it was called with."""

    def compute_self_supervised_loss(self, **arguments):
        return "own", self, arguments


class Plain:
    """Brings no loss."""


class AnsweringLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback", None, arguments


def loss_of(module, config=None):
    learner = AnsweringLearner(module={"m": module}, config=config)
    return learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"]


# Which loss


@SelfSupervisedLossAPI.register
class Registered:
    compute_self_supervised_loss = Curious.compute_self_supervised_loss


@pytest.mark.parametrize(
    ("module_class", "expected"),
    [(Curious, "own"), (Registered, "own"), (Plain, "fallback")],
)
def test_a_module_that_implements_the_api_gets_its_own_loss(module_class, expected):
    assert loss_of(module_class())[0] == expected


def test_a_class_may_be_registered_after_its_modules_were_trained():
    class Late:
        compute_self_supervised_loss = Curious.compute_self_supervised_loss

    with pytest.warns(UserWarning, match="Late"):
        assert loss_of(Late())[0] == "fallback"
    SelfSupervisedLossAPI.register(Late)
    assert loss_of(Late())[0] == "own"


class DuckTyped:
    def compute_self_supervised_loss(self, **arguments):
        raise AssertionError("called")


class Wrapper:
    def __init__(self, wrapped):
        self.wrapped = wrapped

    def unwrapped(self):
        return self.wrapped


@pytest.mark.parametrize("module", [DuckTyped(), Wrapper(DuckTyped())], ids=["bare", "wrapped"])
def test_a_method_of_the_right_name_is_not_enough_and_a_warning_says_so(module):
    with pytest.warns(UserWarning) as warned:
        assert loss_of(module)[0] == "fallback"
    (warning,) = warned
    assert str(warning.message) == (
        "DuckTyped.compute_self_supervised_loss is not called. Derive DuckTyped from "
        "SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
    )


@pytest.mark.parametrize("module", [DuckTyped(), Wrapper(DuckTyped())], ids=["bare", "wrapped"])
def test_the_warning_points_at_the_call_of_compute_losses(module):
    with pytest.warns(UserWarning) as warned:
        loss_of(module)
    assert warned[0].filename == __file__


def test_the_warnings_filter_decides_how_often_the_warning_shows():
    def shown(action):
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter(action)
            for _ in range(3):
                loss_of(DuckTyped())
        return len(shown)

    assert [shown(action) for action in ("ignore", "default", "always")] == [0, 1, 3]
    with pytest.raises(UserWarning, match="DuckTyped"):
        loss_of(DuckTyped())  # as in these tests, where warnings are errors


def test_a_module_that_lacks_the_method_cannot_be_made():
    class Misspelt(SelfSupervisedLossAPI):
        def compute_selfsupervised_loss(self, **arguments): ...

    with pytest.raises(TypeError, match="compute_self_supervised_loss"):
        Misspelt()


# What a loss method is called with


def test_a_loss_method_gets_the_learner_and_what_belongs_to_its_module():
    module, config = Curious(), object()
    learner = AnsweringLearner(module={"a": module, "b": Plain()}, config=config)
    fwd_out = {"b": {"x": 1}, "a": {"x": 2}}
    batch = {"a": {"obs": 3}, "b": {"obs": 4}, "c": {"obs": 5}}

    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, others_loss_per_module=[6])

    shared = {"config": config, "others_loss_per_module": [6]}
    assert list(losses) == ["b", "a"]
    own = {"learner": learner, "module_id": "a", "batch": {"obs": 3}, "fwd_out": {"x": 2}, **shared}
    assert losses["a"] == ("own", module, own)
    assert losses["b"] == (
        "fallback",
        None,
        {"module_id": "b", "batch": {"obs": 4}, "fwd_out": {"x": 1}, **shared},
    )


def test_a_config_may_have_one_for_each_module():
    class Config:
        def get_config_for_module(self, module_id):
            return f"config of {module_id}"

    for module in (Curious(), Plain()):
        assert loss_of(module, Config())[2]["config"] == "config of m"


def test_a_config_that_has_any_attribute_whatever_is_passed_as_it_is():
    class Permissive:
        def __getattr__(self, name):
            return {name: "nothing that can be called"}

    config = Permissive()
    assert loss_of(Curious(), config)[2]["config"] is config


def test_modules_may_come_and_go():
    modules: dict[str, Any] = {}
    learner = AnsweringLearner(module=modules)
    modules["late"] = Curious()
    assert list(learner.compute_losses(fwd_out={"late": {}}, batch={"late": {}})) == ["late"]
    assert learner.compute_losses(fwd_out={}, batch={"late": {}}) == {}


@pytest.mark.parametrize("mapping", [OrderedDict, ChainMap, UserDict, MappingProxyType])
def test_any_mapping_will_do(mapping):
    modules = mapping({"m": Curious()})
    learner = AnsweringLearner(module=modules)
    assert learner.module is modules
    assert (
        learner.compute_losses(fwd_out=mapping({"m": {}}), batch=mapping({"m": {}}))["m"][0]
        == "own"
    )


def test_a_module_may_compute_the_losses_of_others():
    class Outer(Curious):
        def compute_self_supervised_loss(self, *, learner, **arguments):
            return learner.compute_losses(fwd_out={"inner": {}}, batch={"inner": {}})

    learner = AnsweringLearner(module={"outer": Outer(), "inner": Curious()})
    losses = learner.compute_losses(fwd_out={"outer": {}}, batch={"outer": {}})
    assert losses["outer"]["inner"][1] is learner.module["inner"]


# What is left alone


class Untouchable:
    """Raises at whatever a dispatcher has no business doing."""

    def __bool__(self):
        raise AssertionError("tested for truth")

    def __len__(self):
        raise AssertionError("asked for its length")

    def __eq__(self, other):
        raise AssertionError("tested for equality")

    __hash__ = None  # type: ignore[assignment]


def test_nothing_is_tested_for_truth_or_equality_or_converted():
    def return_thing(self, *, config, batch, fwd_out, **arguments):
        assert config is batch is fwd_out is thing
        return thing

    class Own(Untouchable, SelfSupervisedLossAPI):
        compute_self_supervised_loss = return_thing

    class ThingLearner(Learner):
        compute_loss_for_module = return_thing

    thing = Untouchable()
    modules = {"own": Own(), "fallback": Untouchable()}
    learner = ThingLearner(module=modules, config=thing, metrics=thing)
    things = dict.fromkeys(modules, thing)
    assert all(
        loss is thing for loss in learner.compute_losses(fwd_out=things, batch=things).values()
    )
    assert learner.metrics is thing


def test_the_interface_adds_no_state_to_a_module():
    class Slotted(SelfSupervisedLossAPI):
        __slots__ = ("weight",)

        def compute_self_supervised_loss(self, **arguments): ...

    assert not hasattr(Slotted(), "__dict__")


# Names, copies and threads


@pytest.mark.parametrize("public", [Learner, MetricsLogger, SelfSupervisedLossAPI])
def test_public_classes_are_from_the_package_in_help_tracebacks_and_pickles(public):
    assert public.__module__ == "self_supervised_loss"
    assert (
        pickle.loads(pickle.dumps(public))
        is getattr(self_supervised_loss, public.__name__)
        is public
    )


class Logging(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, learner, module_id, batch, **arguments):
        learner.metrics.log_value((module_id, "loss"), batch["obs"])
        return batch["obs"]


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda learner: pickle.loads(pickle.dumps(learner))]
)
def test_a_copy_of_a_learner_goes_on_by_itself(duplicate):
    learner = Learner(module={"m": Logging()}, config={"lr": 0.1})
    learner.compute_losses(fwd_out={"m": {}}, batch={"m": {"obs": 1.0}})
    twin = duplicate(learner)
    twin.compute_losses(fwd_out={"m": {}}, batch={"m": {"obs": 3.0}})
    assert twin.config == learner.config
    assert twin.module["m"] is not learner.module["m"]
    assert twin.metrics.reduce() == {"m": {"loss": 2.0}}
    assert learner.metrics.reduce() == {"m": {"loss": 1.0}}


def test_threads_that_share_a_learner_get_their_own_losses():
    learner = AnsweringLearner(module={"own": Curious(), "fallback": Plain()})
    all_at_once = threading.Barrier(8)

    def dispatch(thread):
        all_at_once.wait()
        for call in range(500):
            inputs = {module_id: {"obs": (thread, call)} for module_id in learner.module}
            losses = learner.compute_losses(fwd_out=inputs, batch=inputs)
            for kind, (answered, _, arguments) in losses.items():
                assert answered == kind
                assert arguments["batch"] == arguments["fwd_out"] == {"obs": (thread, call)}
        return thread

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(dispatch, range(8))) == list(range(8))


def test_each_learner_has_a_metrics_logger_of_its_own():
    one, other = Learner(module={}), Learner(module={})
    assert isinstance(one.metrics, MetricsLogger)
    assert one.metrics is not other.metrics
