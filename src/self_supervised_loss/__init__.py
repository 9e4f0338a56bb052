"""Modules that bring their own self-supervised loss, for any reinforcement-learning codebase."""

from self_supervised_loss._api import ModuleID, SelfSupervisedLossAPI
from self_supervised_loss._learner import Learner
from self_supervised_loss._metrics import MetricsLogger

__version__ = "0.1.0"

__all__ = ["Learner", "MetricsLogger", "ModuleID", "SelfSupervisedLossAPI", "__version__"]

# The classes keep the `__module__` of their files. With that of the package, `Learner??` in IPython
# and `inspect.getsource` would find no source.
