"""The metrics logger: collects the values that modules log, and reduces them key by key."""

from self_supervised_loss._metrics.logger import MetricsLogger
from self_supervised_loss._metrics.tree import to_path

__all__ = ["MetricsLogger", "to_path"]
