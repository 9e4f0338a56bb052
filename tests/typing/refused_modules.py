"""What no implementation of `SelfSupervisedLossAPI` may look like."""

from typing import Any

import torch
from typing_extensions import override

from self_supervised_loss import SelfSupervisedLossAPI


class NoExtraKeywords(SelfSupervisedLossAPI[torch.Tensor]):
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
