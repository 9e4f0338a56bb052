"""What an implementation of `SelfSupervisedLossAPI` may look like, and what it may not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Dict, final  # noqa: UP035

import torch
from torch import nn
from typing_extensions import assert_type, override

from self_supervised_loss import Learner, ModuleID, SelfSupervisedLossAPI


@dataclass
class Config:
    beta: float = 0.2


class CuriosityLearner(Learner[torch.Tensor, Config]):
    scale: float = 1.0


class AllTypeArguments(nn.Module, SelfSupervisedLossAPI[torch.Tensor, Config, CuriosityLearner]):
    @override
    def compute_self_supervised_loss(
        self,
        *,
        learner: CuriosityLearner,
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
        self,
        *,
        learner: Any,
        module_id: str,
        config: Any,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        return fwd_out["error"].mean()


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
        assert_type(loss_of(module), torch.Tensor)
    else:
        assert_type(module, Policy)


def isinstance_narrows_a_base_class(module: nn.Module) -> None:
    if isinstance(module, SelfSupervisedLossAPI):
        assert_type(loss_of(module), torch.Tensor)


def loss_of(module: SelfSupervisedLossAPI[torch.Tensor]) -> torch.Tensor:
    return module.compute_self_supervised_loss(
        learner=None, module_id="icm", config=None, batch={}, fwd_out={}
    )
