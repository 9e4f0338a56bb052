"""Advantage actor-critic, after A2C, the synchronous form of Mnih et al. (2016),
https://arxiv.org/abs/1602.01783."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from self_supervised_loss import SelfSupervisedLossAPI


class ActorCritic(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """A policy that brings all of its loss: in a learner, it is an algorithm of its own, whatever
    the learner's."""

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
            vf_loss_coeff: The weight of the loss of the value function.
            entropy_coeff: The weight of the entropy, which keeps the policy from settling too
                early.
        """
        super().__init__()
        self.vf_loss_coeff = vf_loss_coeff
        self.entropy_coeff = entropy_coeff
        self.policy_net = _mlp(obs_size, hidden_size, num_actions)
        self.value_net = _mlp(obs_size, hidden_size, 1)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Judges observations and what to do.

        Args:
            batch: `"obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`.

        Returns:
            `"action_dist_inputs"`, the logits of the actions, with `num_actions` in place of
            `obs_size`, and `"vf_preds"`, of shape `(B,)` or `(B, T)`.
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
        """Adds up the losses of the policy, of the value function and of the entropy.

        The batch has `"actions"`, their `"advantages"` and the `"value_targets"`, of shape `(B,)`
        or `(B, T)`. Where it has a `"loss_mask"` of that shape, only what it counts is learnt from.
        """
        loss_mask = batch.get("loss_mask")
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
    """Averages over what the mask, if there is one, counts. It is False for padding and for
    artificial rows."""
    if loss_mask is None:
        return values.mean()
    return torch.where(loss_mask, values, 0).sum() / loss_mask.sum().clamp(min=1)
