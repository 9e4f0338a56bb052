"""A deterministic latent world model in Flax NNX, after World Models of Ha and Schmidhuber (2018),
https://arxiv.org/abs/1803.10122."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from self_supervised_loss import SelfSupervisedLossAPI


class LatentWorldModel(nnx.Module, SelfSupervisedLossAPI[jax.Array]):
    """Learns to predict the next observation from the current observation and the action.

    An encoder maps an observation to a latent state, a dynamics network predicts the change of the
    latent state for an action, and a decoder maps latent states to observations. The loss is the
    error of the predicted next observation plus that of the reconstructed current observation.
    """

    def __init__(
        self,
        obs_size: int,
        num_actions: int | None = None,
        *,
        action_size: int | None = None,
        latent_size: int = 16,
        hidden_size: int = 64,
        rngs: nnx.Rngs,
    ) -> None:
        """Builds the three networks, for discrete or continuous actions.

        Args:
            obs_size: The size of a flat observation.
            num_actions: The number of discrete actions. Pass either this or `action_size`.
            action_size: The size of a continuous action, a vector.
            latent_size: The size of the latent state.
            hidden_size: The width of the hidden layers.
            rngs: The source of the initial weights.
        """
        given = [size for size in (num_actions, action_size) if size is not None]
        if len(given) != 1:
            raise TypeError(
                "LatentWorldModel takes either `num_actions` (discrete) or `action_size` "
                f"(continuous), got num_actions={num_actions} and action_size={action_size}."
            )
        self.num_actions = num_actions
        self.action_size = given[0]  # discrete actions become one-hot vectors of this size
        self.encoder = _mlp(obs_size, hidden_size, latent_size, rngs)
        self.dynamics = _mlp(latent_size + self.action_size, hidden_size, latent_size, rngs)
        self.decoder = _mlp(latent_size, hidden_size, obs_size, rngs)

    def __call__(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
        """Predicts one step and reconstructs the observations.

        Args:
            batch: `"obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`. `"actions"` are integers
                of shape `(B,)` or `(B, T)` if actions are discrete, and floats of shape
                `(B, action_size)` or `(B, T, action_size)` if they are continuous.

        Returns:
            `"predicted_obs"` and `"predicted_new_obs"`, of the same shape as `"obs"`.
        """
        latent = self.encoder(batch["obs"])
        actions = self._action_vectors(batch["actions"], latent.shape[:-1]).astype(latent.dtype)
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
        """Returns the sum of the prediction error and the reconstruction error.

        The batch also has `"new_obs"`, of the same shape as `"obs"`. If it has a `"loss_mask"` of
        shape `(B,)` or `(B, T)`, only rows where it is True or 1 count.
        """
        loss_mask = batch.get("loss_mask")
        prediction_errors = jnp.square(fwd_out["predicted_new_obs"] - batch["new_obs"])
        reconstruction_errors = jnp.square(fwd_out["predicted_obs"] - batch["obs"])
        prediction_error = _mean(prediction_errors.mean(axis=-1), loss_mask)
        reconstruction_error = _mean(reconstruction_errors.mean(axis=-1), loss_mask)
        learner.metrics.log_dict(
            {"prediction_error": prediction_error, "reconstruction_error": reconstruction_error},
            key=module_id,
        )
        return prediction_error + reconstruction_error

    def _action_vectors(self, actions: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Returns discrete actions as one-hot vectors and continuous actions unchanged."""
        is_floating = jnp.issubdtype(actions.dtype, jnp.floating)
        if self.num_actions is None:
            if not is_floating:
                raise ValueError(
                    f"`actions` must be floats, got {actions.dtype}. For discrete actions, create "
                    "LatentWorldModel with `num_actions`."
                )
            _check_shape("actions", actions, (*shape, self.action_size))
            return actions
        if is_floating:
            raise ValueError(
                f"`actions` must be integers, got {actions.dtype}. Convert discrete actions with "
                "`astype(int)`; for continuous actions, create LatentWorldModel with `action_size`."
            )
        _check_shape("actions", actions, shape)
        return jax.nn.one_hot(actions, self.num_actions)


def _mlp(in_size: int, hidden_size: int, out_size: int, rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(
        nnx.Linear(in_size, hidden_size, rngs=rngs),
        nnx.relu,
        nnx.Linear(hidden_size, out_size, rngs=rngs),
    )


def _mean(values: jax.Array, loss_mask: jax.Array | None) -> jax.Array:
    """Averages the values, or those that the mask selects."""
    if loss_mask is None:
        return values.mean()
    _check_shape("loss_mask", loss_mask, values.shape)
    mask = loss_mask.astype(bool)
    return values.sum(where=mask) / jnp.maximum(mask.sum(), 1)


def _check_shape(name: str, column: jax.Array, shape: tuple[int, ...]) -> None:
    if column.shape != shape:
        raise ValueError(
            f"`{name}` must have shape {shape}, got {column.shape}. Reshape the column; "
            "`squeeze(-1)` removes a last dimension of size 1."
        )
