"""Which loss each module gets, what its loss method is called with, and what a learner leaves
alone."""

import inspect
import pickle
import warnings
from collections import ChainMap, UserDict
from types import MappingProxyType
from typing import Any

import pytest

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI


class Curious(SelfSupervisedLossAPI):
    """Brings a loss that tells what it was called with."""

    def compute_self_supervised_loss(self, **arguments):
        return self, arguments


class Plain:
    """Brings no loss."""


class AnsweringLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback", arguments


def loss_of(module, config=None):
    learner = AnsweringLearner(module={"m": module}, config=config)
    return learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"]


# Which loss


def test_a_class_may_be_registered_after_its_modules_were_trained():
    class Late:
        compute_self_supervised_loss = Curious.compute_self_supervised_loss

    with pytest.warns(UserWarning, match="Late"):
        assert loss_of(Late())[0] == "fallback"
    SelfSupervisedLossAPI.register(Late)
    module = Late()
    assert loss_of(module)[0] is module


class DuckTyped:
    def compute_self_supervised_loss(self, **arguments):
        raise AssertionError("called")


def test_a_method_of_the_right_name_is_not_enough_and_a_warning_says_so():
    with pytest.warns(UserWarning) as warned:
        assert loss_of(DuckTyped())[0] == "fallback"
    (warning,) = warned
    assert str(warning.message) == (
        "DuckTyped.compute_self_supervised_loss is not called. Derive DuckTyped from "
        "SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
    )


def test_the_warning_points_at_the_call_of_compute_losses():
    with pytest.warns(UserWarning) as warned:
        loss_of(DuckTyped())
    assert warned[0].filename == __file__


@pytest.mark.parametrize(("action", "number"), [("ignore", 0), ("default", 1), ("always", 3)])
def test_the_warnings_filter_decides_how_often_the_warning_shows(action, number):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter(action)
        for _ in range(3):
            loss_of(DuckTyped())
    assert len(shown) == number


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
    own = {"learner": learner, "module_id": "a", "batch": {"obs": 3}, "fwd_out": {"x": 2}}
    fallback = {"module_id": "b", "batch": {"obs": 4}, "fwd_out": {"x": 1}}
    assert list(losses) == ["b", "a"]
    assert losses == {"a": (module, own | shared), "b": ("fallback", fallback | shared)}


@pytest.mark.parametrize("module", [Curious(), Plain()])
def test_a_config_may_have_one_for_each_module(module):
    class Config:
        def get_config_for_module(self, module_id):
            return f"config of {module_id}"

    assert loss_of(module, Config())[1]["config"] == "config of m"


def test_a_config_that_has_any_attribute_whatever_is_passed_as_it_is():
    class Permissive:
        def __getattr__(self, name):
            return {name: "nothing that can be called"}

    config = Permissive()
    assert loss_of(Curious(), config)[1]["config"] is config


def test_modules_may_come_and_go():
    modules: dict[str, Any] = {}
    learner = Learner(module=modules)
    modules["late"] = Curious()
    assert list(learner.compute_losses(fwd_out={"late": {}}, batch={"late": {}})) == ["late"]
    assert learner.compute_losses(fwd_out={}, batch={"late": {}}) == {}


@pytest.mark.parametrize("mapping", [ChainMap, UserDict, MappingProxyType])
def test_any_mapping_will_do(mapping):
    module, inputs = Curious(), mapping({"m": {}})
    learner = Learner(module=mapping({"m": module}))
    assert learner.compute_losses(fwd_out=inputs, batch=inputs)["m"][0] is module


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
    learner = ThingLearner(
        module={"own": Own(), "fallback": Untouchable()}, config=thing, metrics=thing
    )
    things = {"own": thing, "fallback": thing}
    losses = learner.compute_losses(fwd_out=things, batch=things)
    assert losses["own"] is losses["fallback"] is learner.metrics is thing


def test_the_interface_adds_no_state_to_a_module():
    class Slotted(SelfSupervisedLossAPI):
        __slots__ = ("weight",)

        def compute_self_supervised_loss(self, **arguments): ...

    assert not hasattr(Slotted(), "__dict__")


# Where a learner and its classes are from


@pytest.mark.parametrize("public", [Learner, MetricsLogger, SelfSupervisedLossAPI])
def test_public_classes_can_be_pickled_and_their_source_be_found(public):
    assert pickle.loads(pickle.dumps(public)) is public
    assert inspect.getsource(public).startswith(f"class {public.__name__}")


def test_each_learner_has_a_metrics_logger_of_its_own():
    one, other = Learner(module={}), Learner(module={})
    assert isinstance(one.metrics, MetricsLogger)
    assert one.metrics is not other.metrics
