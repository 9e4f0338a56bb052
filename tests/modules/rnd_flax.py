"""Random Network Distillation (RND) of Burda et al. (2018), https://arxiv.org/abs/1810.12894, in
Flax NNX."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from self_supervised_loss import SelfSupervisedLossAPI


class Frozen(nnx.Variable[jax.Array]):
    """A weight that is never trained. Optimizers with `wrt=nnx.Param` leave it alone, so weight
    decay does not change it either."""


class RND(nnx.Module, SelfSupervisedLossAPI[jax.Array]):
    """Rewards an agent for observations that are new to the module.

    A target network maps observations to features. Its weights are random and never trained. A
    predictor network learns to produce the same features. Its error is the intrinsic reward, which
    is large for observations unlike those that it was trained on.
    """

    def __init__(
        self, obs_size: int, *, feature_size: int = 32, hidden_size: int = 64, rngs: nnx.Rngs
    ) -> None:
        """Builds the two networks.

        Args:
            obs_size: The size of a flat observation.
            feature_size: The size of the feature vectors.
            hidden_size: The width of the hidden layers.
            rngs: The source of the initial weights.
        """
        target_net = nnx.Sequential(
            nnx.Linear(obs_size, hidden_size, rngs=rngs),
            nnx.relu,
            nnx.Linear(hidden_size, feature_size, rngs=rngs),
        )
        self.target_net = jax.tree.map(
            lambda weight: Frozen(weight[...]),
            target_net,
            is_leaf=lambda node: isinstance(node, nnx.Param),
        )
        self.predictor_net = nnx.Sequential(  # deeper than the target, as in the paper
            nnx.Linear(obs_size, hidden_size, rngs=rngs),
            nnx.relu,
            nnx.Linear(hidden_size, hidden_size, rngs=rngs),
            nnx.relu,
            nnx.Linear(hidden_size, feature_size, rngs=rngs),
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
        """Computes the prediction error for the observations that transitions led to.

        Args:
            batch: `"new_obs"`, of shape `(B, obs_size)` or `(B, T, obs_size)`. Normalise
                observations whose components differ in scale.

        Returns:
            `"intrinsic_rewards"`, of shape `(B,)` or `(B, T)`.
        """
        target = jax.lax.stop_gradient(self.target_net(batch["new_obs"]))
        return {
            "intrinsic_rewards": jnp.square(self.predictor_net(batch["new_obs"]) - target).mean(-1)
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
        """Returns the mean prediction error.

        If the batch has a `"loss_mask"` of shape `(B,)` or `(B, T)`, only rows where it is True or
        1 count.
        """
        predictor_loss = _mean(fwd_out["intrinsic_rewards"], batch.get("loss_mask"))
        learner.metrics.log_dict({"predictor_loss": predictor_loss}, key=module_id)
        return predictor_loss


def _mean(values: jax.Array, loss_mask: jax.Array | None) -> jax.Array:
    """Averages the values, or those that the mask selects."""
    if loss_mask is None:
        return values.mean()
    if loss_mask.shape != values.shape:
        raise ValueError(
            f"`loss_mask` must have shape {values.shape}, got {loss_mask.shape}. "
            "Reshape the column; `squeeze(-1)` removes a last dimension of size 1."
        )
    mask = loss_mask.astype(bool)
    return values.sum(where=mask) / jnp.maximum(mask.sum(), 1)
