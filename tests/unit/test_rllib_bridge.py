"""RLlib's API of the same name and ours are one.

Stand-ins for two classes of RLlib run on every Python. `tests/rllib/test_bridge.py` uses RLlib.
"""

import abc
import sys
from types import SimpleNamespace

import pytest
from unit.shared import DuckTyped, source_of

from self_supervised_loss import SelfSupervisedLossAPI


class RLModule:
    def unwrapped(self):
        return self


class RLlibAPI(abc.ABC):
    @abc.abstractmethod
    def compute_self_supervised_loss(self, **arguments): ...


@pytest.fixture(autouse=True)
def rllib_is_imported(monkeypatch):
    home = "ray.rllib.core.rl_module"
    monkeypatch.setitem(sys.modules, f"{home}.rl_module", SimpleNamespace(RLModule=RLModule))
    monkeypatch.setitem(
        sys.modules, f"{home}.apis", SimpleNamespace(SelfSupervisedLossAPI=RLlibAPI)
    )


def test_an_rl_module_of_ours_implements_both_apis():
    class Derived(DuckTyped, SelfSupervisedLossAPI, RLModule): ...

    class Registered(DuckTyped, RLModule): ...

    # abc caches this until a class is registered.
    assert not issubclass(Registered, (RLlibAPI, SelfSupervisedLossAPI))
    assert SelfSupervisedLossAPI.register(Registered) is Registered
    for module_class in (Derived, Registered):
        assert issubclass(module_class, RLlibAPI)
        assert issubclass(module_class, SelfSupervisedLossAPI)


def test_other_classes_of_ours_do_not_implement_rllibs_api():
    class Derived(DuckTyped, SelfSupervisedLossAPI): ...

    class Registered(DuckTyped): ...

    assert issubclass(SelfSupervisedLossAPI.register(Registered), SelfSupervisedLossAPI)
    assert not issubclass(Derived, RLlibAPI)
    assert not issubclass(Registered, RLlibAPI)


def test_a_class_that_implements_rllibs_api_brings_its_loss():
    class Derived(DuckTyped, RLlibAPI): ...

    class Registered(DuckTyped): ...

    for module in (Derived(), RLlibAPI.register(Registered)()):
        assert source_of(module) is module

    class Ours(DuckTyped, SelfSupervisedLossAPI): ...

    assert not issubclass(Derived, Ours)


def test_an_rl_module_is_not_a_wrapper():
    class Module(DuckTyped, RLlibAPI, RLModule): ...

    module = Module()
    assert source_of(module) is module
    assert source_of(RLModule()) == "fallback"
