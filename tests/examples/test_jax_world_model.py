"""The JAX example runs and learns."""

import jax.numpy as jnp
import pytest
from examples import jax_world_model
from flax import nnx
from modules.latent_world_model import LatentWorldModel


def test_a_short_training_beats_predicting_no_change():
    history = jax_world_model.train(seed=0, num_steps=200)

    first, *_, last = history["prediction_error"]
    assert last < first / 2
    assert last < history["no_change_error"][-1] / 2


def test_the_loss_is_the_modules_own():
    model = LatentWorldModel(obs_size=4, num_actions=2, rngs=nnx.Rngs(0))
    batch = jax_world_model.collect_transitions(seed=0)
    fwd_out = model(batch)

    loss, metrics = jax_world_model.compute_loss(model, batch)

    logged = {name: value.item() for name, value in metrics["world_model"].items()}
    assert logged == pytest.approx(
        {
            "prediction_error": mse(fwd_out["predicted_new_obs"], batch["new_obs"]),
            "reconstruction_error": mse(fwd_out["predicted_obs"], batch["obs"]),
        }
    )
    assert loss.item() == pytest.approx(sum(logged.values()))


def mse(predictions, targets):
    return jnp.square(predictions - targets).mean().item()
