"""Random Network Distillation of Burda et al. (2018), https://arxiv.org/abs/1810.12894."""

from typing import Any

import torch
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI


class RND(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Rewards an agent for reaching observations that are new to the module.

    A target network turns an observation into features. It is random and never trained. A predictor
    is trained to give the same features. Its error is the intrinsic reward: large for what it has
    seldom been trained on.
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
        """Judges the observations that transitions led to.

        Args:
            batch: `"new_obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`. Observations of
                different scales are to be normalised.

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
        """Averages the errors of the predictor.

        Where the batch has a `"loss_mask"`, of the shape of the rewards, only what it counts is
        learnt from.
        """
        predictor_loss = _mean(fwd_out["intrinsic_rewards"], batch.get("loss_mask"))
        learner.metrics.log_dict({"predictor_loss": predictor_loss}, key=module_id)
        return predictor_loss


def _mean(values: torch.Tensor, loss_mask: torch.Tensor | None) -> torch.Tensor:
    """Averages over what the mask, if there is one, counts. It is False for padding and for
    artificial rows."""
    if loss_mask is None:
        return values.mean()
    return torch.where(loss_mask, values, 0).sum() / loss_mask.sum().clamp(min=1)
