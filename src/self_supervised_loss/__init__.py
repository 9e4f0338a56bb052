"""Modules that bring their own self-supervised loss, for any reinforcement-learning codebase."""

from self_supervised_loss.api import ModuleID, SelfSupervisedLossAPI
from self_supervised_loss.learner import Learner
from self_supervised_loss.metrics import MetricsLogger

__version__ = "0.1.0"

__all__ = ["Learner", "MetricsLogger", "ModuleID", "SelfSupervisedLossAPI", "__version__"]
