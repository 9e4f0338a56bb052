"""Modules and a learner whose losses show who computed them, and from which arguments."""

from self_supervised_loss import Learner, SelfSupervisedLossAPI


class Curious(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, **arguments):
        return self, arguments


class DuckTyped:
    """Has the method, but does not implement the API."""

    compute_self_supervised_loss = Curious.compute_self_supervised_loss


class Plain:
    """Has no loss."""


class Wrapper:
    """Wraps a module as RLlib does."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def unwrapped(self):
        return self.wrapped


class FallbackLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback", arguments


def loss_of(module, learner_class=FallbackLearner, config=None, **extras):
    learner = learner_class(module={"m": module}, config=config)
    return learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}}, **extras)["m"]


def source_of(module):
    """Returns the module that computed its loss, or "fallback"."""
    return loss_of(module)[0]
