"""Which loss each module gets, and the arguments of its loss method."""

import abc
import doctest
import inspect
import pickle
import typing
from collections import ChainMap, UserDict
from types import MappingProxyType

import pytest
from unit.shared import Curious, DuckTyped, FallbackLearner, Plain, Wrapper, loss_of, source_of

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


@pytest.mark.parametrize("module", [DuckTyped(), Wrapper(DuckTyped())], ids=["bare", "wrapped"])
def test_a_class_that_only_has_the_method_triggers_a_warning(module):
    with pytest.warns(UserWarning) as warned:
        assert source_of(module) == "fallback"
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


class ConfigPerModule:
    def get_config_for_module(self, module_id):
        return f"config of {module_id}"


def test_a_loss_method_gets_the_learner_and_the_data_of_its_module():
    modules = UserDict({"a": Curious()})  # any mapping serves
    learner = FallbackLearner(module=modules, config=ConfigPerModule())
    modules["b"] = Plain()  # modules may be added later
    fwd_out = ChainMap({"b": {"x": 1}, "a": {"x": 2}})
    batch = MappingProxyType({"a": {"obs": 3}, "b": {"obs": 4}, "c": {"obs": 5}})

    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, others_loss_per_module=[6])

    a = {"module_id": "a", "config": "config of a", "batch": {"obs": 3}, "fwd_out": {"x": 2}}
    b = {"module_id": "b", "config": "config of b", "batch": {"obs": 4}, "fwd_out": {"x": 1}}
    extra = {"others_loss_per_module": [6]}
    assert list(losses) == ["b", "a"]
    assert losses["a"] == (modules["a"], a | extra | {"learner": learner})
    assert losses["b"] == ("fallback", b | extra)


def test_a_config_with_any_attribute_is_passed_unchanged():
    class Permissive:
        def __getattr__(self, name):
            return {name: "nothing that can be called"}

    config = Permissive()
    assert loss_of(Curious(), config=config)[1]["config"] is config


# No side effects


class Untouchable:
    """Raises on anything that a dispatcher should not do."""

    def __bool__(self):
        raise AssertionError("tested for truth")

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
    names = {"module", "config", "metrics"}
    assert typing.get_type_hints(Learner.__init__).keys() == {*names, "return"}
    assert inspect.signature(Learner, eval_str=True).parameters.keys() == names


def test_the_interface_brings_no_state_and_few_bases():
    assert SelfSupervisedLossAPI.__slots__ == ()
    assert SelfSupervisedLossAPI.__bases__ == (abc.ABC, typing.Generic)
