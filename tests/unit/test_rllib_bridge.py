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


class FallbackLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback"


def losses_of(**modules):
    return FallbackLearner(module=modules).compute_losses(fwd_out=modules, batch=modules)


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
    ],
)
def test_a_class_that_derives_from_ours_and_is_an_rl_module_implements_both(bases):
    module_class = type("Module", bases, {})
    assert issubclass(module_class, RLlibAPI)
    assert issubclass(module_class, SelfSupervisedLossAPI)


def test_what_is_no_rl_module_is_none_of_rllibs_business():
    class Derived(WithLoss, SelfSupervisedLossAPI): ...

    @SelfSupervisedLossAPI.register
    class Registered(WithLoss): ...

    assert issubclass(Registered, SelfSupervisedLossAPI)
    assert not issubclass(Derived, RLlibAPI)
    assert not issubclass(Registered, RLlibAPI)


def test_other_rl_modules_implement_neither_and_are_warned_of_if_they_have_the_method():
    class Ours(WithLoss, SelfSupervisedLossAPI, RLModule): ...

    class DuckTyped(WithLoss, RLModule): ...

    assert not issubclass(DuckTyped, RLlibAPI)
    with pytest.warns(UserWarning, match="DuckTyped.compute_self_supervised_loss is not called"):
        assert losses_of(duck=DuckTyped()) == {"duck": "fallback"}


def test_what_implements_rllibs_is_asked_for_its_loss():
    class Derived(WithLoss, RLlibAPI): ...

    @RLlibAPI.register
    class Registered(WithLoss): ...

    losses = losses_of(derived=Derived(), registered=Registered())
    assert losses == {"derived": "own", "registered": "own"}


def test_an_rl_module_that_is_registered_with_ours_implements_rllibs():
    class Module(WithLoss, RLModule): ...

    assert not issubclass(Module, RLlibAPI)  # which is remembered, until a class is registered
    assert SelfSupervisedLossAPI.register(Module) is Module
    assert issubclass(Module, RLlibAPI)
    assert issubclass(Module, SelfSupervisedLossAPI)


def test_what_implements_rllibs_is_no_instance_of_a_class_that_derives_from_ours():
    class Ours(WithLoss, SelfSupervisedLossAPI): ...

    class Theirs(WithLoss, RLlibAPI): ...

    assert not issubclass(Theirs, Ours)


def test_an_rl_module_that_wraps_nothing_is_not_asked_for_a_module_inside(monkeypatch):
    def unwrapped(self):
        raise AssertionError("asked")

    class Module(WithLoss, RLlibAPI, RLModule): ...

    class Policy(RLModule): ...

    monkeypatch.setattr(RLModule, "unwrapped", unwrapped)
    assert losses_of(icm=Module(), policy=Policy()) == {"icm": "own", "policy": "fallback"}
