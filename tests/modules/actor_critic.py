"""Advantage actor-critic (A2C), the synchronous form of Mnih et al. (2016),
https://arxiv.org/abs/1602.01783."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from self_supervised_loss import SelfSupervisedLossAPI


class ActorCritic(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """A policy for discrete actions that computes its whole loss, whichever algorithm the learner
    implements."""

    def __init__(
        self,
        obs_size: int,
        num_actions: int,
        *,
        hidden_size: int = 64,
        vf_loss_coeff: float = 0.5,
        entropy_coeff: float = 0.01,
    ) -> None:
        """Builds the two networks.

        Args:
            obs_size: The size of a flat observation.
            num_actions: The number of discrete actions.
            hidden_size: The width of the hidden layers.
            vf_loss_coeff: The weight of the value function's loss.
            entropy_coeff: The weight of the entropy bonus, which keeps the policy exploring.
        """
        super().__init__()
        self.vf_loss_coeff = vf_loss_coeff
        self.entropy_coeff = entropy_coeff
        self.policy_net = _mlp(obs_size, hidden_size, num_actions)
        self.value_net = _mlp(obs_size, hidden_size, 1)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Computes action logits and values.

        Args:
            batch: `"obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`.

        Returns:
            `"action_dist_inputs"`, logits of shape `(B, num_actions)` or `(B, T, num_actions)`, and
            `"vf_preds"`, of shape `(B,)` or `(B, T)`.
        """
        return {
            "action_dist_inputs": self.policy_net(batch["obs"]),
            "vf_preds": self.value_net(batch["obs"]).squeeze(-1),
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
        """Returns the policy loss plus the weighted value loss, minus the weighted entropy.

        The batch has `"actions"` (integers), `"advantages"` and `"value_targets"`, all of shape
        `(B,)` or `(B, T)`. If it has a `"loss_mask"` of that shape, only rows where it is True or 1
        count.
        """
        loss_mask = batch.get("loss_mask")
        for name in ("actions", "advantages", "value_targets"):
            _check_shape(name, batch[name], fwd_out["vf_preds"].shape)
        if batch["actions"].is_floating_point():
            raise ValueError(
                f"`actions` must be integers, got {batch['actions'].dtype}. Convert discrete "
                "actions with `long()`."
            )
        log_probs = F.log_softmax(fwd_out["action_dist_inputs"], dim=-1)
        actions = batch["actions"].long().unsqueeze(-1)
        log_probs_of_actions = log_probs.gather(-1, actions).squeeze(-1)
        policy_loss = _mean(-log_probs_of_actions * batch["advantages"], loss_mask)
        vf_loss = _mean((fwd_out["vf_preds"] - batch["value_targets"]).square(), loss_mask)
        entropy = _mean(-(log_probs.exp() * log_probs).sum(dim=-1), loss_mask)
        learner.metrics.log_dict(
            {"policy_loss": policy_loss, "vf_loss": vf_loss, "entropy": entropy}, key=module_id
        )
        return policy_loss + self.vf_loss_coeff * vf_loss - self.entropy_coeff * entropy


def _mlp(in_size: int, hidden_size: int, out_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, out_size)
    )


def _mean(values: torch.Tensor, loss_mask: torch.Tensor | None) -> torch.Tensor:
    """Averages the values, or those that the mask selects."""
    if loss_mask is None:
        return values.mean()
    _check_shape("loss_mask", loss_mask, values.shape)
    mask = loss_mask.bool()
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def _check_shape(name: str, column: torch.Tensor, shape: tuple[int, ...]) -> None:
    if column.shape != shape:
        raise ValueError(
            f"`{name}` must have shape {tuple(shape)}, got {tuple(column.shape)}. Reshape the "
            "column; `squeeze(-1)` removes a last dimension of size 1."
        )
