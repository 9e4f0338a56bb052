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
        Learner(module={"m": Forwarding(Curious())}).compute_losses(
            fwd_out={"m": 0}, batch={"m": 0}
        )
    assert f"module 'm' (Forwarding) has no loss. {NOT_KNOWN}" in str(raised.value)


def test_a_wrapper_may_forward_attributes_and_have_the_method_unwrapped():
    class Known(Forwarding):
        def unwrapped(self):
            return self.wrapped

    module = Curious()
    assert loss_of(Known(module)) is module
