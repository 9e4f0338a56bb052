"""Random Network Distillation (RND) of Burda et al. (2018), https://arxiv.org/abs/1810.12894."""

from typing import Any

import torch
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI


class RND(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Rewards an agent for observations that are new to the module.

    A target network maps observations to features. Its weights are random and never trained. A
    predictor network learns to produce the same features. Its error is the intrinsic reward, which
    is large for observations unlike those that it was trained on.
    """

    def __init__(self, obs_size: int, *, feature_size: int = 32, hidden_size: int = 64) -> None:
        """Builds the two networks.

        Args:
            obs_size: The size of a flat observation.
            feature_size: The size of the feature vectors.
            hidden_size: The width of the hidden layers.
        """
        super().__init__()
        self.target_net = nn.Sequential(
            nn.Linear(obs_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, feature_size),
        )
        self.target_net.requires_grad_(requires_grad=False)
        self.predictor_net = nn.Sequential(  # deeper than the target, as in the paper
            nn.Linear(obs_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, feature_size),
        )

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Computes the prediction error for the observations that transitions led to.

        Args:
            batch: `"new_obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`. Normalise
                observations whose components differ in scale.

        Returns:
            `"intrinsic_rewards"`, of shape `(B,)` or `(B, T)`.
        """
        error = self.predictor_net(batch["new_obs"]) - self.target_net(batch["new_obs"])
        return {"intrinsic_rewards": error.pow(2).mean(dim=-1)}

    def compute_self_supervised_loss(
        self,
        *,
        learner: Any,
        module_id: str,
        config: Any,
        batch: dict[str, Any],
        fwd_out: dict[str, torch.Tensor],
        **kwargs: Any,
    ) -> torch.Tensor:
        """Returns the mean prediction error.

        If the batch has a `"loss_mask"` of shape `(B,)` or `(B, T)`, only rows where it is True or
        1 count.
        """
        predictor_loss = _mean(fwd_out["intrinsic_rewards"], batch.get("loss_mask"))
        learner.metrics.log_dict({"predictor_loss": predictor_loss}, key=module_id)
        return predictor_loss


def _mean(values: torch.Tensor, loss_mask: torch.Tensor | None) -> torch.Tensor:
    """Averages the values, or those that the mask selects."""
    if loss_mask is None:
        return values.mean()
    if loss_mask.shape != values.shape:
        raise ValueError(
            f"`loss_mask` must have shape {tuple(values.shape)}, got {tuple(loss_mask.shape)}. "
            "Reshape the column; `squeeze(-1)` removes a last dimension of size 1."
        )
    mask = loss_mask.bool()
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)
