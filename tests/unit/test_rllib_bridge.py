"""RLlib's API of the same name and ours are one.

Stand-ins for two classes of RLlib run on every Python. `tests/rllib/test_bridge.py` repeats the
tests with RLlib.
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
def test_an_rl_module_that_derives_from_ours_implements_both(bases):
    module_class = type("Module", bases, {})
    assert issubclass(module_class, RLlibAPI)
    assert issubclass(module_class, SelfSupervisedLossAPI)


def test_other_classes_do_not_implement_rllibs_api():
    class Derived(WithLoss, SelfSupervisedLossAPI): ...

    @SelfSupervisedLossAPI.register
    class Registered(WithLoss): ...

    assert issubclass(Registered, SelfSupervisedLossAPI)
    assert not issubclass(Derived, RLlibAPI)
    assert not issubclass(Registered, RLlibAPI)


def test_an_rl_module_that_only_has_the_method_triggers_a_warning():
    class Ours(WithLoss, SelfSupervisedLossAPI, RLModule): ...

    class DuckTyped(WithLoss, RLModule): ...

    assert not issubclass(DuckTyped, RLlibAPI)
    with pytest.warns(UserWarning, match="DuckTyped.compute_self_supervised_loss is not called"):
        assert losses_of(duck=DuckTyped()) == {"duck": "fallback"}


def test_a_class_that_implements_rllibs_api_brings_its_loss():
    class Derived(WithLoss, RLlibAPI): ...

    @RLlibAPI.register
    class Registered(WithLoss): ...

    losses = losses_of(derived=Derived(), registered=Registered())
    assert losses == {"derived": "own", "registered": "own"}


def test_a_registered_rl_module_implements_rllibs_api():
    class Module(WithLoss, RLModule): ...

    assert not issubclass(Module, RLlibAPI)  # abc caches this until a class is registered
    assert SelfSupervisedLossAPI.register(Module) is Module
    assert issubclass(Module, RLlibAPI)
    assert issubclass(Module, SelfSupervisedLossAPI)


def test_rllibs_api_does_not_make_a_class_one_of_ours():
    class Ours(WithLoss, SelfSupervisedLossAPI): ...

    class Theirs(WithLoss, RLlibAPI): ...

    assert not issubclass(Theirs, Ours)


def test_an_rl_module_without_a_wrapper_is_not_unwrapped(monkeypatch):
    def unwrapped(self):
        raise AssertionError("asked")

    class Module(WithLoss, RLlibAPI, RLModule): ...

    class Policy(RLModule): ...

    monkeypatch.setattr(RLModule, "unwrapped", unwrapped)
    assert losses_of(icm=Module(), policy=Policy()) == {"icm": "own", "policy": "fallback"}
