"""The Intrinsic Curiosity Module of Pathak et al. (2017), https://arxiv.org/abs/1705.05363."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from self_supervised_loss import SelfSupervisedLossAPI


class ICM(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Rewards an agent for transitions that the module cannot predict yet.

    An inverse model learns to predict the action from the features of two successive observations,
    so the features describe what the agent can influence and ignore the rest. A forward model
    predicts the next features from the current features and the action. Its error is the intrinsic
    reward.
    """

    def __init__(
        self,
        obs_size: int,
        num_actions: int | None = None,
        *,
        action_size: int | None = None,
        feature_size: int = 32,
        hidden_size: int = 64,
        beta: float = 0.2,
    ) -> None:
        """Builds the three networks, for discrete or continuous actions.

        Args:
            obs_size: The size of a flat observation.
            num_actions: The number of discrete actions. Pass either this or `action_size`.
            action_size: The size of a continuous action, a vector.
            feature_size: The size of the feature vectors.
            hidden_size: The width of the hidden layers.
            beta: The weight of the forward loss, from 0 to 1. The inverse loss has weight
                `1 - beta`.
        """
        super().__init__()
        given = [size for size in (num_actions, action_size) if size is not None]
        if len(given) != 1:
            raise TypeError(
                "ICM takes either `num_actions` (discrete) or `action_size` (continuous), got "
                f"num_actions={num_actions} and action_size={action_size}."
            )
        self.num_actions, self.beta = num_actions, beta
        self.action_size = given[0]  # discrete actions become one-hot vectors of this size
        self.feature_net = _mlp(obs_size, hidden_size, feature_size)
        self.inverse_net = _mlp(2 * feature_size, hidden_size, self.action_size)
        self.forward_net = _mlp(feature_size + self.action_size, hidden_size, feature_size)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Predicts the actions and the next features of transitions.

        Args:
            batch: `"obs"` and `"new_obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`.
                `"actions"` are integers of shape `(B,)` or `(B, T)` if actions are discrete, and
                floats of shape `(B, action_size)` or `(B, T, action_size)` if they are continuous.

        Returns:
            `"intrinsic_rewards"`, of shape `(B,)` or `(B, T)`, and `"predicted_actions"`: logits of
            shape `(..., num_actions)` or action vectors of shape `(..., action_size)`.
        """
        phi, next_phi = self.feature_net(batch["obs"]), self.feature_net(batch["new_obs"])
        actions = self._action_vectors(batch["actions"], phi.shape[:-1]).to(phi)
        predicted_phi = self.forward_net(torch.cat([phi, actions], dim=-1))
        return {
            "intrinsic_rewards": 0.5 * (predicted_phi - next_phi).pow(2).sum(dim=-1),
            "predicted_actions": self.inverse_net(torch.cat([phi, next_phi], dim=-1)),
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
        """Returns the weighted sum of the forward and the inverse loss.

        If the batch has a `"loss_mask"` of shape `(B,)` or `(B, T)`, only rows where it is True or
        1 count.
        """
        loss_mask = batch.get("loss_mask")
        inverse_errors = self._inverse_errors(fwd_out["predicted_actions"], batch["actions"])
        forward_loss = _mean(fwd_out["intrinsic_rewards"], loss_mask)
        inverse_loss = _mean(inverse_errors, loss_mask)
        learner.metrics.log_dict(
            {"forward_loss": forward_loss, "inverse_loss": inverse_loss}, key=module_id
        )
        return self.beta * forward_loss + (1 - self.beta) * inverse_loss

    def _action_vectors(self, actions: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Returns discrete actions as one-hot vectors and continuous actions unchanged."""
        if self.num_actions is None:
            if not actions.is_floating_point():
                raise ValueError(
                    f"`actions` must be floats, got {actions.dtype}. For discrete actions, create "
                    "ICM with `num_actions`."
                )
            _check_shape("actions", actions, (*shape, self.action_size))
            return actions
        if actions.is_floating_point():
            raise ValueError(
                f"`actions` must be integers, got {actions.dtype}. Convert discrete actions with "
                "`long()`; for continuous actions, create ICM with `action_size`."
            )
        _check_shape("actions", actions, shape)
        return F.one_hot(actions.long(), self.num_actions)

    def _inverse_errors(self, predicted: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        if self.num_actions is None:
            return (predicted - actions.to(predicted)).square().mean(dim=-1)
        return F.cross_entropy(predicted.movedim(-1, 1), actions.long(), reduction="none")


def _mlp(in_size: int, hidden_size: int, out_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, out_size)
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
