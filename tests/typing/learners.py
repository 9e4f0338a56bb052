"""What a training loop may look like, and what it may not."""

from dataclasses import dataclass
from typing import Any

import torch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger as RLlibMetricsLogger
from torch import nn
from typing_extensions import assert_type, override

from self_supervised_loss import Learner, MetricsLogger, ModuleID


@dataclass
class Config:
    clip: float = 0.2


class PPOLearner(Learner[torch.Tensor, Config]):
    @override
    def compute_loss_for_module(
        self,
        *,
        module_id: ModuleID,
        config: Config,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
        **kwargs: Any,
    ) -> torch.Tensor:
        return config.clip * fwd_out["ratio"].mean()


class Trainer(Learner[torch.Tensor, Config], nn.Module):
    """Is an nn.Module too, and so registers the parameters of its modules."""


class Borrower:
    """Has the dispatcher alone."""

    compute_losses = Learner[torch.Tensor, Config].compute_losses

    def __init__(self, module: dict[str, nn.Module], config: Config) -> None:
        self.module, self.config, self.metrics = module, config, MetricsLogger()

    def compute_loss_for_module(
        self, *, fwd_out: dict[str, torch.Tensor], **kwargs: Any
    ) -> torch.Tensor:
        return fwd_out["ratio"].mean()


class Printer:
    def log_value(
        self, key: str | tuple[str, ...], value: Any, *, window: int | None = None
    ) -> None:
        print(key, value, window)

    def log_dict(self, value_dict: dict[str, Any], *, key: str | None = None) -> None:
        print(key, value_dict)

    def flush(self) -> None: ...


modules: dict[str, nn.Module] = {"policy": nn.Linear(2, 2), "value": nn.Linear(2, 1)}
learner = PPOLearner(module=modules, config=Config())
assert_type(learner.config, Config)

inputs = {"policy": {"ratio": torch.ones(2)}}
losses = learner.compute_losses(fwd_out=inputs, batch=inputs, step=3)
assert_type(losses, dict[str, torch.Tensor])
learner.compute_losses(fwd_out=inputs)  # refused
learner.compute_losses(inputs, inputs)  # refused

borrower = Borrower(modules, Config())
assert_type(borrower.compute_losses(fwd_out=inputs, batch=inputs), dict[str, torch.Tensor])
Trainer(module=nn.ModuleDict(modules), config=Config()).parameters()

PPOLearner(module=nn.ModuleDict(modules))
PPOLearner(module=modules, metrics=RLlibMetricsLogger())
PPOLearner(module=modules, metrics=Printer()).metrics.flush()
PPOLearner()  # refused
PPOLearner(module=nn.Linear(2, 2))  # refused
PPOLearner(modules)  # refused
PPOLearner(module=modules, config=0.2)  # refused

assert_type(Learner(module=modules, config=Config()).config, Config)
untyped_config = Learner[torch.Tensor](module=modules)
assert_type(untyped_config.compute_losses(fwd_out={}, batch={}), dict[str, torch.Tensor])
Learner(module=modules).compute_losses(fwd_out={}, batch={})

metrics = MetricsLogger()
metrics.log_value("loss", 1.0, reduce="max", window=10)
metrics.log_value(("policy", "loss"), torch.ones(2), reduce="ema", ema_coeff=0.1)
metrics.log_value(1, 0.5)  # refused
metrics.log_value("loss", 0.5, reduce="median")  # refused
metrics.log_dict({"loss": 1.0, "nested": {"ratio": torch.ones(2)}}, key="policy")
metrics.log_dict({"loss": 1.0}, key=("agents", "policy"))
assert_type(metrics.peek(("policy", "loss")), Any)
assert_type(metrics.reduce(), dict[str, Any])
assert_type(metrics.reduce(sep="/"), dict[str, Any])
