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


class CuriousWrapper(Wrapper, Curious): ...


@SelfSupervisedLossAPI.register
class RegisteredWrapper(Wrapper):
    def compute_self_supervised_loss(self, **arguments):
        return self


class FallbackLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback"


def loss_of(module):
    return FallbackLearner(module={"m": module}).compute_losses(fwd_out={"m": {}}, batch={"m": {}})[
        "m"
    ]


def test_a_module_in_wrappers_gets_its_own_loss():
    module = Curious()
    assert loss_of(Wrapper(Wrapper(module))) is module


def test_a_module_without_a_loss_gets_the_learners_wrapped_or_not():
    assert loss_of(Wrapper(Wrapper(Plain()))) == "fallback"


@pytest.mark.parametrize("wrapper_class", [CuriousWrapper, RegisteredWrapper])
def test_the_outermost_that_implements_the_api_counts(wrapper_class):
    wrapper = wrapper_class(Curious())
    assert loss_of(Wrapper(wrapper)) is wrapper


def test_a_module_that_unwraps_to_itself_is_no_wrapper():
    class OwnUnwrapped(Plain):
        def unwrapped(self):
            return self

    assert loss_of(OwnUnwrapped()) == "fallback"


@pytest.mark.parametrize("attribute", ["module", "_orig_mod", "_forward_module", "unwrapped"])
def test_a_module_that_merely_has_a_child_of_that_name_is_no_wrapper(attribute):
    parent = Plain()
    setattr(parent, attribute, Curious())
    assert loss_of(parent) == "fallback"


def test_a_property_named_unwrapped_makes_no_wrapper():
    class LikeAnEnv:
        @property
        def unwrapped(self):
            raise AssertionError("asked")

    assert loss_of(LikeAnEnv()) == "fallback"


def test_a_class_that_merely_has_the_name_of_a_wrapper_is_no_wrapper():
    class DistributedDataParallel:
        module = Curious()

    assert loss_of(DistributedDataParallel()) == "fallback"


def test_wrappers_that_go_round_in_a_circle_end_in_an_error():
    one, other = Wrapper(None), Wrapper(None)
    one.wrapped, other.wrapped = other, one
    with pytest.raises(RecursionError):
        loss_of(one)
