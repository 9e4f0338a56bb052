"""Modules that bring their own self-supervised loss, for any reinforcement-learning codebase."""

from self_supervised_loss._api import ModuleID, SelfSupervisedLossAPI
from self_supervised_loss._learner import Learner
from self_supervised_loss._metrics import MetricsLogger

__version__ = "0.1.0"

__all__ = ["Learner", "MetricsLogger", "ModuleID", "SelfSupervisedLossAPI", "__version__"]

for _public in (Learner, MetricsLogger, SelfSupervisedLossAPI):
    _public.__module__ = __name__  # as help(), tracebacks and pickles show it
