"""Wrappers with a method `unwrapped()`. Those of torch and Lightning are in tests/frameworks."""

import pytest

from self_supervised_loss import Learner, SelfSupervisedLossAPI


class Curious(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, **arguments):
        return self


class Plain: ...


class Wrapper:
    """Wraps a module in the way of RLlib."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def unwrapped(self):
        return self.wrapped


class FallbackLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback"


def loss_of(module, learner_class=FallbackLearner):
    learner = learner_class(module={"m": module})
    return learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"]


def test_wrappers_are_looked_through_for_a_loss():
    module = Curious()
    assert loss_of(Wrapper(Wrapper(module))) is module
    assert loss_of(Wrapper(Wrapper(Plain()))) == "fallback"


def test_a_class_inside_that_merely_has_the_method_is_warned_of():
    class DuckTyped:
        compute_self_supervised_loss = Curious.compute_self_supervised_loss

    with pytest.warns(UserWarning, match="^DuckTyped.compute_self_supervised_loss is not called"):
        assert loss_of(Wrapper(DuckTyped())) == "fallback"


class CuriousWrapper(Wrapper, Curious): ...


@SelfSupervisedLossAPI.register
class RegisteredWrapper(Wrapper):
    compute_self_supervised_loss = Curious.compute_self_supervised_loss


@pytest.mark.parametrize("wrapper_class", [CuriousWrapper, RegisteredWrapper])
def test_the_outermost_that_implements_the_api_counts(wrapper_class):
    wrapper = wrapper_class(Curious())
    assert loss_of(Wrapper(wrapper)) is wrapper


class UnwrapsToItself:
    def unwrapped(self):
        return self


class LikeAnEnv:
    @property
    def unwrapped(self):
        raise AssertionError("asked")


class DistributedDataParallel:
    """Has the name of a wrapper, and children of the names that wrappers give theirs."""

    def __init__(self):
        self.module = self._orig_mod = self.unwrapped = Curious()


@pytest.mark.parametrize("module", [UnwrapsToItself(), LikeAnEnv(), DistributedDataParallel()])
def test_a_module_that_merely_looks_like_a_wrapper_is_none(module):
    assert loss_of(module) == "fallback"


# Wrappers that are not known


class Forwarding:
    """Wraps a module in a way of its own, as peft's PeftModel does."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self.wrapped, name)


NOT_KNOWN = (
    "Forwarding is a wrapper that is not known: give the learner the module inside, "
    "or give Forwarding a method unwrapped() that returns it."
)


def test_a_wrapper_that_is_not_known_is_warned_of_if_the_module_inside_has_a_loss_method():
    with pytest.warns(UserWarning) as warned:
        assert loss_of(Forwarding(Curious())) == "fallback"
    assert [str(warning.message) for warning in warned] == [
        f"Forwarding.compute_self_supervised_loss is not called. {NOT_KNOWN}"
    ]
    assert loss_of(Forwarding(Plain())) == "fallback"  # no warning, since nothing is ignored


def test_the_error_without_a_loss_has_the_remedy_for_wrappers_too():
    with pytest.warns(UserWarning), pytest.raises(NotImplementedError) as raised:
        loss_of(Forwarding(Curious()), Learner)
    assert str(raised.value).endswith(f"Or, if the module has its own loss: {NOT_KNOWN}")


def test_a_wrapper_may_forward_attributes_and_have_the_method_unwrapped():
    class Known(Forwarding):
        def unwrapped(self):
            return self.wrapped

    module = Curious()
    assert loss_of(Known(module)) is module
