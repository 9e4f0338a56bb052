"""The Intrinsic Curiosity Module of Pathak et al. (2017), https://arxiv.org/abs/1705.05363."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from self_supervised_loss import SelfSupervisedLossAPI


class ICM(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Rewards an agent for transitions that the module cannot predict yet.

    A feature network is trained to tell which action led from one observation to the next (inverse
    model), so that it learns what the agent can influence and ignores the rest. A forward model
    predicts the next features from the present ones and the action. Its error is the intrinsic
    reward.
    """

    def __init__(
        self,
        obs_size: int,
        num_actions: int,
        *,
        feature_size: int = 32,
        hidden_size: int = 64,
        beta: float = 0.2,
    ) -> None:
        """Builds the three networks.

        Args:
            obs_size: The size of a flat observation.
            num_actions: The number of discrete actions.
            feature_size: The size of the feature vectors.
            hidden_size: The width of the hidden layers.
            beta: The weight of the forward loss against the inverse loss, from 0 to 1.
        """
        super().__init__()
        self.num_actions = num_actions
        self.beta = beta
        self.feature_net = _mlp(obs_size, hidden_size, feature_size)
        self.inverse_net = _mlp(2 * feature_size, hidden_size, num_actions)
        self.forward_net = _mlp(feature_size + num_actions, hidden_size, feature_size)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Judges transitions.

        Args:
            batch: `"obs"` and `"new_obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`, and
                `"actions"`, integers of shape `(B,)` or `(B, T)`.

        Returns:
            `"intrinsic_rewards"`, of the shape of the actions, and `"action_logits"`, with
            `num_actions` behind it.
        """
        phi, next_phi = self.feature_net(batch["obs"]), self.feature_net(batch["new_obs"])
        actions = F.one_hot(batch["actions"].long(), self.num_actions).to(phi)
        predicted_phi = self.forward_net(torch.cat([phi, actions], dim=-1))
        return {
            "intrinsic_rewards": 0.5 * (predicted_phi - next_phi).pow(2).sum(dim=-1),
            "action_logits": self.inverse_net(torch.cat([phi, next_phi], dim=-1)),
        }

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
        """Weighs the error of the forward model against that of the inverse model.

        Where the batch has a `"loss_mask"`, of the shape of the actions, only what it counts is
        learnt from.
        """
        logits, loss_mask = fwd_out["action_logits"].movedim(-1, 1), batch.get("loss_mask")
        forward_loss = _mean(fwd_out["intrinsic_rewards"], loss_mask)
        inverse_loss = _mean(
            F.cross_entropy(logits, batch["actions"].long(), reduction="none"), loss_mask
        )
        learner.metrics.log_dict(
            {"forward_loss": forward_loss, "inverse_loss": inverse_loss}, key=module_id
        )
        return self.beta * forward_loss + (1 - self.beta) * inverse_loss


def _mlp(in_size: int, hidden_size: int, out_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, out_size)
    )


def _mean(values: torch.Tensor, loss_mask: torch.Tensor | None) -> torch.Tensor:
    """Averages over what the mask, if there is one, counts. It is False for padding and for
    artificial rows."""
    if loss_mask is None:
        return values.mean()
    return torch.where(loss_mask, values, 0).sum() / loss_mask.sum().clamp(min=1)
