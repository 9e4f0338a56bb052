"""What an implementation and a training loop may look like, and what they may not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Dict, final  # noqa: UP035

import torch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger as RLlibMetricsLogger
from torch import nn
from typing_extensions import assert_type, override

from self_supervised_loss import Learner, MetricsLogger, ModuleID, SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


@dataclass
class Config:
    beta: float = 0.2


class PolicyLearner(Learner[torch.Tensor, Config]):
    scale: float = 1.0

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
        return config.beta * fwd_out["ratio"].mean()


# Modules


class AllTypeArguments(nn.Module, SelfSupervisedLossAPI[torch.Tensor, Config, PolicyLearner]):
    @override
    def compute_self_supervised_loss(
        self,
        *,
        learner: PolicyLearner,
        module_id: ModuleID,
        config: Config,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
        **kwargs: Any,
    ) -> torch.Tensor:
        assert_type(learner.config, Config)
        loss = learner.scale * config.beta * fwd_out["error"].mean()
        learner.metrics.log_value((module_id, "loss"), loss, window=10)
        learner.metrics.log_dict({"loss": loss}, key=module_id)
        return loss


class NoTypeArguments(SelfSupervisedLossAPI):
    @override
    def compute_self_supervised_loss(
        self,
        *,
        learner: Learner,
        module_id: str,
        config: Config,
        batch: Dict[str, Any],  # noqa: UP006 (as RLlib's own modules)
        fwd_out: Dict[str, float],  # noqa: UP006
        **kwargs: Any,
    ) -> float:
        return config.beta * fwd_out["error"]


# What a method does not use can be left to `**kwargs`.


class WithMapping(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(
        self, *, batch: Mapping[str, Any], fwd_out: Mapping[str, torch.Tensor], **kwargs: Any
    ) -> torch.Tensor:
        return fwd_out["error"].mean()


class WithAny(SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(
        self, *, batch: Any, fwd_out: Any, scale: float = 1.0, **kwargs: Any
    ) -> torch.Tensor:
        return torch.as_tensor(scale * fwd_out["error"]).mean()


class WithoutKwargs(SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(  # refused
        self, *, learner: Any, module_id: str, config: Any, batch: Any, fwd_out: Any
    ) -> torch.Tensor:
        return torch.as_tensor(fwd_out["error"]).mean()


class WrongReturnType(SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(  # refused
        self, *, fwd_out: dict[str, torch.Tensor], **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        return fwd_out


@final
class Policy: ...


def isinstance_narrows_a_union(module: SelfSupervisedLossAPI[torch.Tensor] | Policy) -> None:
    if isinstance(module, SelfSupervisedLossAPI):
        assert_type(module, SelfSupervisedLossAPI[torch.Tensor])
    else:
        assert_type(module, Policy)


# Learners


modules: dict[str, nn.Module] = {"policy": nn.Linear(2, 2), "value": nn.Linear(2, 1)}
learner = PolicyLearner(module=modules, config=Config())
assert_type(learner.config, Config)

inputs = {"policy": {"ratio": torch.ones(2)}}
losses = learner.compute_losses(fwd_out=inputs, batch=inputs, step=3)
assert_type(losses, dict[str, torch.Tensor])
learner.compute_losses(fwd_out=inputs)  # refused
learner.compute_losses(inputs, inputs)  # refused

PolicyLearner(module=nn.ModuleDict(modules))
PolicyLearner(module=modules, metrics=RLlibMetricsLogger()).metrics.reset()
PolicyLearner()  # refused
PolicyLearner(module=nn.Linear(2, 2))  # refused
PolicyLearner(modules)  # refused
PolicyLearner(module=modules, config=0.2)  # refused

assert_type(Learner(module=modules, config=Config()).config, Config)
untyped_config = Learner[torch.Tensor](module=modules)
untyped_config.compute_loss_for_module("policy", None, {}, {})  # refused
assert_type(untyped_config.compute_losses(fwd_out={}, batch={}), dict[str, torch.Tensor])
Learner(module=modules).compute_losses(fwd_out={}, batch={})

metrics = MetricsLogger()
metrics.log_value("loss", 1.0, reduce="max", window=10)
metrics.log_value(("policy", "loss"), torch.ones(2), reduce="ema", ema_coeff=0.1)
metrics.log_value(1, 0.5)  # refused
metrics.log_value("loss", 0.5, reduce="median")  # refused
metrics.log_value("loss", 0.5, "max")  # refused
metrics.log_dict({"loss": 1.0}, "policy")  # refused
check_module(WithAny(), {}, {})  # refused
metrics.log_dict({"loss": 1.0, "nested": {"ratio": torch.ones(2)}}, key="policy")
metrics.log_dict({"loss": 1.0}, key=("agents", "policy"))
assert_type(metrics.peek(("policy", "loss")), Any)
assert_type(metrics.reduce(), dict[str, Any])
assert_type(metrics.reduce(sep="/"), dict[str, Any])
