"""Which loss each module gets, and the arguments of its loss method."""

import abc
import doctest
import inspect
import pickle
import typing
from collections import ChainMap, UserDict
from types import MappingProxyType

import pytest
from unit.shared import Curious, DuckTyped, FallbackLearner, Plain, loss_of, source_of

import self_supervised_loss as package
from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI

# Which loss


def test_a_class_may_be_registered_after_a_dispatch():
    class Late(DuckTyped): ...

    module = Late()
    with pytest.warns(UserWarning, match="Late"):
        assert source_of(module) == "fallback"
    SelfSupervisedLossAPI.register(Late)
    assert source_of(module) is module


def test_a_class_that_only_has_the_method_triggers_a_warning():
    with pytest.warns(UserWarning) as warned:
        assert source_of(DuckTyped()) == "fallback"
    (warning,) = warned
    assert str(warning.message) == (
        "DuckTyped.compute_self_supervised_loss is not called. Derive DuckTyped from "
        "SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
    )


def test_the_warning_points_at_the_call_of_compute_losses():
    with pytest.warns(UserWarning) as warned:
        loss_of(DuckTyped())
    assert warned[0].filename == loss_of.__code__.co_filename


def test_a_module_without_the_method_cannot_be_created():
    class Misspelt(SelfSupervisedLossAPI):
        def compute_selfsupervised_loss(self, **arguments): ...

    with pytest.raises(TypeError, match="compute_self_supervised_loss"):
        Misspelt()


# The arguments of a loss method


def test_a_loss_method_gets_the_learner_and_the_data_of_its_module():
    module, config = Curious(), object()
    learner = FallbackLearner(module={"a": module, "b": Plain()}, config=config)
    fwd_out = {"b": {"x": 1}, "a": {"x": 2}}
    batch = {"a": {"obs": 3}, "b": {"obs": 4}, "c": {"obs": 5}}

    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, others_loss_per_module=[6])

    shared = {"config": config, "others_loss_per_module": [6]}
    own = {"learner": learner, "module_id": "a", "batch": {"obs": 3}, "fwd_out": {"x": 2}}
    fallback = {"module_id": "b", "batch": {"obs": 4}, "fwd_out": {"x": 1}}
    assert list(losses) == ["b", "a"]
    assert losses == {"a": (module, own | shared), "b": ("fallback", fallback | shared)}


@pytest.mark.parametrize("module", [Curious(), Plain()])
def test_a_config_may_hold_one_config_per_module(module):
    class Config:
        def get_config_for_module(self, module_id):
            return f"config of {module_id}"

    assert loss_of(module, config=Config())[1]["config"] == "config of m"


def test_a_config_with_any_attribute_is_passed_unchanged():
    class Permissive:
        def __getattr__(self, name):
            return {name: "nothing that can be called"}

    config = Permissive()
    assert loss_of(Curious(), config=config)[1]["config"] is config


def test_modules_may_be_added_later():
    modules = {}
    learner = Learner(module=modules)
    modules["late"] = Curious()
    assert list(learner.compute_losses(fwd_out={"late": {}}, batch={"late": {}})) == ["late"]
    assert learner.compute_losses(fwd_out={}, batch={"late": {}}) == {}


@pytest.mark.parametrize("mapping", [ChainMap, UserDict, MappingProxyType])
def test_any_mapping_can_hold_modules_and_data(mapping):
    module, inputs = Curious(), mapping({"m": {}})
    learner = Learner(module=mapping({"m": module}))
    assert learner.compute_losses(fwd_out=inputs, batch=inputs)["m"][0] is module


# No side effects


class Untouchable:
    """Raises on anything that a dispatcher should not do."""

    def __bool__(self):
        raise AssertionError("tested for truth")

    def __len__(self):
        raise AssertionError("asked for its length")

    def __eq__(self, other):
        raise AssertionError("tested for equality")

    __hash__ = None  # type: ignore[assignment]


def test_nothing_is_compared_or_converted():
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


# Three ways into a codebase: subclass the learner, mix it in, or borrow its dispatcher


class ExistingTrainer:
    def __init__(self):
        self.steps = 0


class MixedIn(FallbackLearner, ExistingTrainer): ...


class Borrowed:
    """Has only the attributes that `compute_losses` uses."""

    __slots__ = ("config", "metrics", "module")
    compute_losses = Learner.compute_losses
    compute_loss_for_module = FallbackLearner.compute_loss_for_module

    def __init__(self, module):
        self.module, self.config, self.metrics = module, "config", MetricsLogger()


def test_a_learner_may_be_mixed_in_or_borrowed():
    modules = {"icm": Curious(), "policy": Plain()}
    mixed_in = MixedIn(module=modules, config="config")
    assert mixed_in.steps == 0
    for learner in (mixed_in, Borrowed(modules)):
        losses = learner.compute_losses(fwd_out=modules, batch=modules)
        assert (losses["icm"][0], losses["policy"][0]) == (modules["icm"], "fallback")
        assert losses["icm"][1]["learner"] is learner
        assert losses["policy"][1]["config"] == "config"


# The public classes


@pytest.mark.parametrize("public", [Learner, MetricsLogger, SelfSupervisedLossAPI])
def test_public_classes_can_be_pickled_and_have_source(public):
    assert pickle.loads(pickle.dumps(public)) is public
    assert inspect.getsource(public).startswith(f"class {public.__name__}")


def test_each_learner_has_its_own_metrics_logger():
    first, second = Learner(module={}), Learner(module={})
    assert isinstance(first.metrics, MetricsLogger)
    assert first.metrics is not second.metrics


@pytest.mark.parametrize("public", [Learner, MetricsLogger])
def test_the_example_in_the_docstring_runs(public):
    [example] = doctest.DocTestFinder(recurse=False).find(public, globs=vars(package))
    result = doctest.DocTestRunner().run(example)
    assert result.attempted > 2
    assert result.failed == 0


def test_the_annotations_of_a_learner_can_be_evaluated():
    names = {"module", "config", "metrics", "return"}
    assert typing.get_type_hints(Learner.__init__).keys() == names


def test_the_interface_derives_from_abc_and_generic_only():
    assert SelfSupervisedLossAPI.__bases__ == (abc.ABC, typing.Generic)
