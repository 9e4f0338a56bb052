"""Three ways into a codebase: subclass the learner, mix it in, or borrow its dispatcher."""

import pytest

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI


class Curious(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, learner, module_id, config, **kwargs):
        learner.metrics.log_value((module_id, "called"), 1, reduce="sum")
        return "own", learner, config


class Plain: ...


MODULES = {"icm": Curious(), "policy": Plain()}


class ExistingTrainer:
    """Has its own state, and is created without arguments."""

    def __init__(self):
        self.steps = 0


class Subclass(Learner):
    def compute_loss_for_module(self, *, module_id, **kwargs):
        return "fallback", self, module_id


class MixedIn(Learner, ExistingTrainer):
    compute_loss_for_module = Subclass.compute_loss_for_module


class Borrowed:
    """Has only the attributes that `compute_losses` uses."""

    __slots__ = ("config", "metrics", "module")
    compute_losses = Learner.compute_losses
    compute_loss_for_module = Subclass.compute_loss_for_module

    def __init__(self, module, config):
        self.module, self.config, self.metrics = module, config, MetricsLogger()


@pytest.mark.parametrize("learner_class", [Subclass, MixedIn, Borrowed])
def test_each_way_computes_the_same_losses(learner_class):
    learner = learner_class(module=MODULES, config="config")
    losses = learner.compute_losses(fwd_out=MODULES, batch=MODULES)
    assert losses == {"icm": ("own", learner, "config"), "policy": ("fallback", learner, "policy")}
    assert learner.metrics.reduce() == {"icm": {"called": 1}}


def test_a_mixed_in_learner_initialises_the_other_base():
    assert MixedIn(module=MODULES).steps == 0
