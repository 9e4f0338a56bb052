"""Self-predictive representations, after SPR of Schwarzer et al. (2021),
https://arxiv.org/abs/2007.05929."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from self_supervised_loss import SelfSupervisedLossAPI


class SelfPrediction(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Teaches an encoder, which a policy may read too, to tell what comes next.

    From the latent of an observation and the action, a transition network predicts the latent of
    the next observation. Both are compared as projections. That of the next observation comes from
    a target: a copy of the encoder and its projection that learns nothing and follows them slowly,
    so that the encoder cannot make the task easy by giving every observation the same latent. SPR
    predicts several steps ahead, this module one.

    Call `update_target` after each step of the optimizer.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        latent_size: int,
        num_actions: int,
        hidden_size: int = 64,
        projection_size: int = 32,
        tau: float = 0.01,
    ) -> None:
        """Takes the encoder, which is shared and not copied, and builds the other networks.

        Args:
            encoder: Maps observations of shape `(B, ...)` to latents of shape `(B, latent_size)`.
                For batches with a time dimension it also maps `(B, T, ...)` to `(B, T,
                latent_size)`.
            latent_size: The size of a latent.
            num_actions: The number of discrete actions.
            hidden_size: The width of the hidden layers.
            projection_size: The size of the projections.
            tau: How far the target goes towards the encoder in one update, from 0 to 1.
        """
        super().__init__()
        self.num_actions = num_actions
        self.tau = tau
        self.encoder = encoder
        self.transition_net = _mlp(latent_size + num_actions, hidden_size, latent_size)
        self.projection_net = _mlp(latent_size, hidden_size, projection_size)
        self.prediction_net = nn.Linear(projection_size, projection_size)
        self.target = copy.deepcopy(
            nn.Sequential(self.encoder, self.projection_net)
        ).requires_grad_(False)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Predicts the projections of the next latents.

        Args:
            batch: `"obs"` and `"new_obs"`, of shape `(B, ...)` or `(B, T, ...)`, and `"actions"`,
                integers of shape `(B,)` or `(B, T)`.

        Returns:
            `"latents"`, of the shape of the actions with `latent_size` behind it, and
            `"predictions"` and `"targets"`, with `projection_size`.
        """
        latents = self.encoder(batch["obs"])
        actions = F.one_hot(batch["actions"].long(), self.num_actions).to(latents)
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
        """Returns how far predictions and targets are from having one direction: 0 is perfect, 1 is
        unrelated.

        The variance of the latents, averaged over their components, is logged too. It goes to 0
        where they collapse. Where the batch has a `"loss_mask"`, of the shape of the actions, only
        what it counts is compared.
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
        """Lets the target follow the encoder and its projection by the fraction `tau`."""
        online = nn.Sequential(self.encoder, self.projection_net)
        for target_parameter, parameter in zip(
            self.target.parameters(), online.parameters(), strict=True
        ):
            target_parameter.lerp_(parameter, self.tau)


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


def _variance(latents: torch.Tensor, loss_mask: torch.Tensor | None) -> torch.Tensor:
    """Averages the variances of the components, over what the mask, if there is one, counts."""
    if loss_mask is None:
        return latents.flatten(end_dim=-2).var(dim=0).mean()
    count = loss_mask.sum()
    counted = torch.where(loss_mask[..., None], latents, 0).flatten(end_dim=-2)
    mean = counted.sum(dim=0) / count.clamp(min=1)
    variance = _mean((latents - mean).square().mean(dim=-1), loss_mask)
    return variance * count / (count - 1).clamp(min=1)
