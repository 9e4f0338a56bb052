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


# The next three have no `**kwargs` either. Beside `**kwargs: Any`, which takes every keyword, all
# four checkers allow a missing one, pyright also a renamed one, and pyrefly parameters that cannot
# be given by keyword at all.


class MissingKeyword(SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(  # refused
        self,
        *,
        learner: Any,
        module_id: str,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        return fwd_out["error"].mean()


class RenamedKeyword(SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(  # refused
        self,
        *,
        learner: Any,
        module_id: str,
        config: Any,
        batch: dict[str, Any],
        outputs: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        return outputs["error"].mean()


class PositionalParameters(SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(  # refused
        self,
        learner: Any,
        module_id: str,
        config: Any,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
        /,
    ) -> torch.Tensor:
        return fwd_out["error"].mean()


class WrongReturnType(SelfSupervisedLossAPI[torch.Tensor]):
    @override
    def compute_self_supervised_loss(  # refused
        self,
        *,
        learner: Any,
        module_id: str,
        config: Any,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        return fwd_out
