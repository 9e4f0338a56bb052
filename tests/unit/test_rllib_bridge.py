"""Our API and RLlib's of the same name are one, on every Python: RLlib's two classes have stand-ins
here.

`tests/rllib/test_bridge.py` asks the same of RLlib itself.
"""

import abc
import sys
from types import SimpleNamespace

import pytest

from self_supervised_loss import Learner, SelfSupervisedLossAPI


class RLModule:
    def unwrapped(self):
        return self


class RLlibAPI(abc.ABC):
    @abc.abstractmethod
    def compute_self_supervised_loss(self, **arguments): ...


class WithLoss:
    def compute_self_supervised_loss(self, **arguments):
        return "own"


@pytest.fixture(autouse=True)
def rllib_is_imported(monkeypatch):
    home = "ray.rllib.core.rl_module"
    monkeypatch.setitem(sys.modules, f"{home}.rl_module", SimpleNamespace(RLModule=RLModule))
    monkeypatch.setitem(
        sys.modules, f"{home}.apis", SimpleNamespace(SelfSupervisedLossAPI=RLlibAPI)
    )


@pytest.mark.parametrize(
    "bases",
    [
        (WithLoss, SelfSupervisedLossAPI, RLModule),
        (WithLoss, RLModule, SelfSupervisedLossAPI),
        (SelfSupervisedLossAPI, WithLoss, RLlibAPI, RLModule),
        (RLlibAPI, WithLoss, RLModule, SelfSupervisedLossAPI),
    ],
)
def test_a_class_that_derives_from_ours_and_is_an_rl_module_implements_both(bases):
    module_class = type("Module", bases, {})
    assert issubclass(module_class, RLlibAPI)
    assert issubclass(module_class, SelfSupervisedLossAPI)


def test_what_is_no_rl_module_is_none_of_rllibs_business():
    class Module(WithLoss, SelfSupervisedLossAPI): ...

    assert not issubclass(Module, RLlibAPI)


@pytest.mark.parametrize("api", [RLlibAPI, SelfSupervisedLossAPI])
def test_other_rl_modules_are_left_alone(api):
    class Ours(WithLoss, SelfSupervisedLossAPI, RLModule): ...

    class Other(WithLoss, RLModule): ...

    assert not issubclass(Other, api)


def test_what_implements_rllibs_is_asked_for_its_loss():
    class Derived(WithLoss, RLlibAPI): ...

    @RLlibAPI.register
    class Registered(WithLoss): ...

    modules = {"derived": Derived(), "registered": Registered()}
    assert set(Learner(module=modules).compute_losses(fwd_out=modules, batch=modules).values()) == {
        "own"
    }


def test_what_is_registered_with_ours_implements_rllibs_if_it_is_an_rl_module():
    class Module(WithLoss, RLModule): ...

    class NoRLModule(WithLoss): ...

    assert not issubclass(Module, RLlibAPI)  # which is remembered, until a class is registered
    assert SelfSupervisedLossAPI.register(Module) is Module
    SelfSupervisedLossAPI.register(NoRLModule)
    assert issubclass(Module, RLlibAPI) and issubclass(Module, SelfSupervisedLossAPI)
    assert issubclass(NoRLModule, SelfSupervisedLossAPI) and not issubclass(NoRLModule, RLlibAPI)


def test_what_implements_rllibs_is_no_instance_of_a_class_that_derives_from_ours():
    class Ours(WithLoss, SelfSupervisedLossAPI): ...

    class Theirs(WithLoss, RLlibAPI): ...

    assert not issubclass(Theirs, Ours)


def test_an_rl_module_that_merely_has_the_method_is_warned_of():
    class DuckTyped(WithLoss, RLModule): ...

    class FallbackLearner(Learner):
        def compute_loss_for_module(self, **arguments):
            return "fallback"

    modules = {"duck": DuckTyped()}
    with pytest.warns(UserWarning, match="DuckTyped.compute_self_supervised_loss is not called"):
        assert FallbackLearner(module=modules).compute_losses(fwd_out=modules, batch=modules) == {
            "duck": "fallback"
        }


def test_an_rl_module_that_wraps_nothing_is_not_asked_for_a_module_inside(monkeypatch):
    def unwrapped(self):
        raise AssertionError("asked")

    class Module(WithLoss, RLlibAPI, RLModule): ...

    class Policy(RLModule): ...

    class FallbackLearner(Learner):
        def compute_loss_for_module(self, **arguments):
            return "fallback"

    monkeypatch.setattr(RLModule, "unwrapped", unwrapped)
    modules = {"icm": Module(), "policy": Policy()}
    losses = FallbackLearner(module=modules).compute_losses(fwd_out=modules, batch=modules)
    assert losses == {"icm": "own", "policy": "fallback"}
