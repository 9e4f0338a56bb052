"""Self-predictive representations (SPR) of Schwarzer et al. (2021),
https://arxiv.org/abs/2007.05929, one step ahead."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from self_supervised_loss import SelfSupervisedLossAPI


class SelfPrediction(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Trains an encoder, usually shared with a policy, to predict its own next latent.

    A transition network predicts the latent of the next observation from the current latent and the
    action. The prediction and the latent of the actual next observation are compared after a
    projection. The latter comes from a target network: a copy of encoder and projection that is not
    trained but follows them slowly. Without it, the encoder could map all observations to the same
    latent. SPR predicts several steps ahead, this module one.

    Call `update_target` after each optimizer step.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        latent_size: int,
        num_actions: int | None = None,
        action_size: int | None = None,
        hidden_size: int = 64,
        projection_size: int = 32,
        tau: float = 0.01,
    ) -> None:
        """Shares the encoder and builds the other networks, for discrete or continuous actions.

        Args:
            encoder: Maps observations of shape `(B, ...)` to latents of shape `(B, latent_size)`.
                For batches with a time dimension, it must also map `(B, T, ...)` to
                `(B, T, latent_size)`.
            latent_size: The size of a latent.
            num_actions: The number of discrete actions. Pass either this or `action_size`.
            action_size: The size of a continuous action, a vector.
            hidden_size: The width of the hidden layers.
            projection_size: The size of the projections.
            tau: The fraction by which one update moves the target towards the encoder.
        """
        super().__init__()
        given = [size for size in (num_actions, action_size) if size is not None]
        if len(given) != 1:
            raise TypeError(
                "SelfPrediction takes either `num_actions` (discrete) or `action_size` "
                f"(continuous), got num_actions={num_actions} and action_size={action_size}."
            )
        self.num_actions, self.tau = num_actions, tau
        self.action_size = given[0]  # discrete actions become one-hot vectors of this size
        self.encoder = encoder
        self.transition_net = _mlp(latent_size + self.action_size, hidden_size, latent_size)
        self.projection_net = _mlp(latent_size, hidden_size, projection_size)
        self.prediction_net = nn.Linear(projection_size, projection_size)
        self.target = copy.deepcopy(
            nn.Sequential(self.encoder, self.projection_net)
        ).requires_grad_(False)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Predicts the projections of the next latents.

        Args:
            batch: `"obs"` and `"new_obs"`, of shape `(B, ...)` or `(B, T, ...)`. `"actions"` are
                integers of shape `(B,)` or `(B, T)` if actions are discrete, and floats of shape
                `(B, action_size)` or `(B, T, action_size)` if they are continuous.

        Returns:
            `"latents"`, of shape `(B, latent_size)` or `(B, T, latent_size)`, and `"predictions"`
            and `"targets"`, with `projection_size` in place of `latent_size`.
        """
        latents = self.encoder(batch["obs"])
        actions = self._action_vectors(batch["actions"], latents.shape[:-1]).to(latents)
        next_latents = self.transition_net(torch.cat([latents, actions], dim=-1))
        return {
            "latents": latents,
            "predictions": self.prediction_net(self.projection_net(next_latents)),
            "targets": self.target(batch["new_obs"]),
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
        """Returns one minus the mean cosine similarity of predictions and targets.

        It also logs the variance of the latents, averaged over their components. A variance near 0
        means that the latents have collapsed. If the batch has a `"loss_mask"` of shape `(B,)` or
        `(B, T)`, only rows where it is True or 1 count.
        """
        loss_mask = batch.get("loss_mask")
        similarity = F.cosine_similarity(fwd_out["predictions"], fwd_out["targets"], dim=-1)
        loss = 1 - _mean(similarity, loss_mask)
        latent_variance = _variance(fwd_out["latents"], loss_mask)
        learner.metrics.log_dict(
            {"prediction_loss": loss, "latent_variance": latent_variance}, key=module_id
        )
        return loss

    @torch.no_grad()
    def update_target(self) -> None:
        """Moves the target towards the encoder and its projection by the fraction `tau`."""
        online = nn.Sequential(self.encoder, self.projection_net)
        for target_parameter, parameter in zip(
            self.target.parameters(), online.parameters(), strict=True
        ):
            target_parameter.lerp_(parameter, self.tau)

    def _action_vectors(self, actions: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Returns discrete actions as one-hot vectors and continuous actions unchanged."""
        if self.num_actions is None:
            if not actions.is_floating_point():
                raise ValueError(
                    f"`actions` must be floats, got {actions.dtype}. For discrete actions, create "
                    "SelfPrediction with `num_actions`."
                )
            _check_shape("actions", actions, (*shape, self.action_size))
            return actions
        if actions.is_floating_point():
            raise ValueError(
                f"`actions` must be integers, got {actions.dtype}. Convert discrete actions with "
                "`long()`; for continuous actions, create SelfPrediction with `action_size`."
            )
        _check_shape("actions", actions, shape)
        return F.one_hot(actions.long(), self.num_actions)


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


def _variance(latents: torch.Tensor, loss_mask: torch.Tensor | None) -> torch.Tensor:
    """Averages the variance over the components of the latents. The mask selects rows."""
    if loss_mask is None:
        return latents.flatten(end_dim=-2).var(dim=0).mean()
    mask = loss_mask.bool()
    count = mask.sum()
    selected = torch.where(mask[..., None], latents, 0).flatten(end_dim=-2)
    mean = selected.sum(dim=0) / count.clamp(min=1)
    variance = _mean((latents - mean).square().mean(dim=-1), mask)
    return variance * count / (count - 1).clamp(min=1)


def _check_shape(name: str, column: torch.Tensor, shape: tuple[int, ...]) -> None:
    if column.shape != shape:
        raise ValueError(
            f"`{name}` must have shape {tuple(shape)}, got {tuple(column.shape)}. Reshape the "
            "column; `squeeze(-1)` removes a last dimension of size 1."
        )
