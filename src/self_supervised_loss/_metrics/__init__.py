"""The metrics logger: collects the values that modules log and reduces them key by key."""

from self_supervised_loss._metrics.logger import MetricsLogger

__all__ = ["MetricsLogger"]
