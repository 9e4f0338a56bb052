"""Learners look through wrappers. The wrappers of torch and others are in tests/frameworks."""

import sys
import warnings

import pytest
from unit.shared import Curious, DuckTyped, Plain, Wrapper, loss_of, source_of

from self_supervised_loss import Learner, SelfSupervisedLossAPI


def test_learners_look_through_wrappers():
    module = Curious()
    assert source_of(Wrapper(Wrapper(module))) is module
    assert source_of(Wrapper(Wrapper(Plain()))) == "fallback"


def test_the_outermost_module_that_implements_the_api_counts():
    class CuriousWrapper(Wrapper, Curious): ...

    wrapper = CuriousWrapper(Curious())
    assert source_of(Wrapper(wrapper)) is wrapper


class UnwrapsToItself:
    def unwrapped(self):
        return self


class LikeAnEnv:
    @property
    def unwrapped(self):
        raise AssertionError("asked")


class DistributedDataParallel:
    """Has the name of a wrapper, and children with the names that wrappers use."""

    def __init__(self):
        self.module = self._orig_mod = self.unwrapped = Curious()


@pytest.mark.parametrize("module", [UnwrapsToItself(), LikeAnEnv(), DistributedDataParallel()])
def test_a_module_that_only_looks_like_a_wrapper_is_not_unwrapped(module):
    assert source_of(module) == "fallback"


def test_an_unwrapped_method_that_never_ends_is_refused():
    class Endless:
        def unwrapped(self):
            return Endless()

    with pytest.raises(RecursionError) as raised:
        source_of(Wrapper(Endless()))
    assert str(raised.value) == (
        "Endless.unwrapped() never reaches the innermost module. "
        "It must return the module inside, or self if there is none."
    )


# Unknown wrappers


class Forwarding:
    """Forwards attributes, as peft's PeftModel does."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self.wrapped, name)


def test_an_unknown_wrapper_around_a_loss_method_should_be_unwrapped():
    remedy = (
        "Forwarding is an unknown wrapper. Give the learner the module inside, "
        "or give Forwarding a method unwrapped() that returns that module."
    )
    with pytest.warns(UserWarning) as warned, pytest.raises(NotImplementedError) as raised:
        loss_of(Forwarding(Curious()), Learner)
    assert [str(warning.message) for warning in warned] == [
        f"Forwarding.compute_self_supervised_loss is not called. {remedy}"
    ]
    assert str(raised.value) == f"module 'm' (Forwarding) does not implement the API. {remedy}"
    assert source_of(Forwarding(Plain())) == "fallback"  # no warning, since no loss is ignored


@pytest.mark.parametrize("base", [Forwarding, Wrapper])
def test_a_class_may_gain_the_method_unwrapped_later(base):
    class Late(base):
        unwrapped = None

    module = Curious()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert source_of(Late(module)) == "fallback"
    Late.unwrapped = Wrapper.unwrapped
    assert source_of(Late(module)) is module
    assert source_of(Wrapper(Late(module))) is module


# Classes that were defined again, as in a notebook


class Redefined(DuckTyped): ...


def test_an_instance_of_an_older_class_is_named_as_such(monkeypatch):
    old = Redefined()
    new_class = SelfSupervisedLossAPI.register(type("Redefined", (Redefined,), {}))
    monkeypatch.setitem(globals(), "Redefined", new_class)
    with pytest.warns(UserWarning) as warned:
        assert source_of(old) == "fallback"
    assert str(warned[0].message) == (
        "Redefined.compute_self_supervised_loss is not called. "
        "This Redefined belongs to an older version of the class. Create it again."
    )


def test_an_older_class_without_a_loss_method_is_named_as_such(monkeypatch):
    old = Plain()
    monkeypatch.setattr(sys.modules[Plain.__module__], "Plain", Curious)
    message = r"\(Plain\) does not implement the API. This Plain belongs to an older version"
    with pytest.raises(NotImplementedError, match=message):
        loss_of(old, Learner)
