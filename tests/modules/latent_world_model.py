"""A latent world model in Flax: predicts the next observation through a small latent state."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from self_supervised_loss import SelfSupervisedLossAPI


class LatentWorldModel(nnx.Module, SelfSupervisedLossAPI[jax.Array]):
    """Learns what an action does to an environment.

    An encoder turns an observation into a latent state, a dynamics network moves that state by one
    action, and a decoder turns it back into an observation. The loss is the error of the predicted
    next observation, plus that of the present one after encoding and decoding, so that the latent
    state stands for all of the observation.
    """

    def __init__(
        self,
        obs_size: int,
        num_actions: int,
        *,
        latent_size: int = 16,
        hidden_size: int = 64,
        rngs: nnx.Rngs,
    ) -> None:
        """Builds the three networks.

        Args:
            obs_size: The size of a flat observation.
            num_actions: The number of discrete actions.
            latent_size: The size of the latent state.
            hidden_size: The width of the hidden layers.
            rngs: Where the initial weights come from.
        """
        self.num_actions = num_actions
        self.encoder = _mlp(obs_size, hidden_size, latent_size, rngs)
        self.dynamics = _mlp(latent_size + num_actions, hidden_size, latent_size, rngs)
        self.decoder = _mlp(latent_size, hidden_size, obs_size, rngs)

    def __call__(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
        """Predicts one step.

        Args:
            batch: `"obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`, and `"actions"`,
                integers of shape `(B,)` or `(B, T)`.

        Returns:
            `"predicted_obs"` and `"predicted_new_obs"`, both of the shape of the observations.
        """
        latent = self.encoder(batch["obs"])
        actions = jax.nn.one_hot(batch["actions"], self.num_actions)
        new_latent = latent + self.dynamics(jnp.concatenate([latent, actions], axis=-1))
        return {
            "predicted_obs": self.decoder(latent),
            "predicted_new_obs": self.decoder(new_latent),
        }

    def compute_self_supervised_loss(
        self,
        *,
        learner: Any,
        module_id: str,
        config: Any,
        batch: dict[str, Any],
        fwd_out: dict[str, jax.Array],
        **kwargs: Any,
    ) -> jax.Array:
        """Adds the error of the prediction to that of the reconstruction.

        Where the batch has a `"loss_mask"`, of the shape of the actions, only what it counts is
        learnt from.
        """
        loss_mask = batch.get("loss_mask")
        prediction_error = _mean(
            jnp.square(fwd_out["predicted_new_obs"] - batch["new_obs"]), loss_mask
        )
        reconstruction_error = _mean(jnp.square(fwd_out["predicted_obs"] - batch["obs"]), loss_mask)
        learner.metrics.log_dict(
            {"prediction_error": prediction_error, "reconstruction_error": reconstruction_error},
            key=module_id,
        )
        return prediction_error + reconstruction_error


def _mlp(in_size: int, hidden_size: int, out_size: int, rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(
        nnx.Linear(in_size, hidden_size, rngs=rngs),
        nnx.relu,
        nnx.Linear(hidden_size, out_size, rngs=rngs),
    )


def _mean(errors: jax.Array, loss_mask: jax.Array | None) -> jax.Array:
    """Averages over what the mask, if there is one, counts. It is False for padding and for
    artificial rows."""
    if loss_mask is None:
        return errors.mean()
    return (
        jnp.sum(errors, where=loss_mask[..., None])
        / jnp.maximum(loss_mask.sum(), 1)
        / errors.shape[-1]
    )
