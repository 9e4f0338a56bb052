"""A latent world model in JAX that learns to predict the next observation of CartPole.

A random policy collects transitions of Gymnasium's CartPole-v1. A Flax module
(`tests/modules/latent_world_model.py`) is trained on them with Optax, under `nnx.jit`, and
evaluated on held-out transitions.

    python tests/examples/jax_world_model.py

This example needs the extra jax: pip install -e '.[jax]'

Where to look: `compute_loss` computes the module's own loss through a `Learner`. Metrics that the
module logs while it is traced are returned as well, as the auxiliary value of `value_and_grad`.

Observations are standardised, so errors have no unit.
"""

import sys
from pathlib import Path
from typing import Any

try:
    import gymnasium as gym
    import jax
    import numpy as np
    import optax
    from flax import nnx

    from self_supervised_loss import Learner

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from examples.shared import History, Progress, make_parser, report
    from modules.latent_world_model import LatentWorldModel
except ModuleNotFoundError as error:
    remedy = "This example needs the extra jax: pip install -e '.[jax]'"
    raise ModuleNotFoundError(f"The package {error.name} is missing. {remedy}") from None

NUM_TRANSITIONS = 10_000
NUM_HELD_OUT = 2_000
BATCH_SIZE = 256
LEARNING_RATE = 1e-3
STEPS_PER_EVALUATION = 20

Batch = dict[str, Any]


def compute_loss(model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the loss of the model and the metrics that it logged."""
    learner = Learner[jax.Array](module={"world_model": model})
    losses = learner.compute_losses(
        fwd_out={"world_model": model(batch)}, batch={"world_model": batch}
    )
    return losses["world_model"], learner.metrics.reduce()


evaluate = nnx.jit(compute_loss)


@nnx.jit
def train_step(model: nnx.Module, optimizer: nnx.Optimizer, batch: Batch) -> dict[str, Any]:
    (_, metrics), gradients = nnx.value_and_grad(compute_loss, has_aux=True)(model, batch)
    optimizer.update(model, gradients)
    return metrics


def train(seed: int, num_steps: int) -> History:
    """Trains a new model and shows its error on held-out transitions."""
    transitions = collect_transitions(seed)
    held_out = {column: rows[-NUM_HELD_OUT:] for column, rows in transitions.items()}
    no_change_error = float(np.square(held_out["new_obs"] - held_out["obs"]).mean())
    model = LatentWorldModel(obs_size=4, num_actions=2, rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)
    rng = np.random.default_rng(seed)
    progress = Progress(num_steps, f"seed {seed}")

    def show(step: int) -> None:
        _, metrics = evaluate(model, held_out)
        error = float(metrics["world_model"]["prediction_error"])
        progress.show(step, prediction_error=error, no_change_error=no_change_error)

    show(0)
    for step in range(1, num_steps + 1):
        indices = rng.integers(NUM_TRANSITIONS - NUM_HELD_OUT, size=BATCH_SIZE)
        train_step(
            model, optimizer, {column: rows[indices] for column, rows in transitions.items()}
        )
        if step % STEPS_PER_EVALUATION == 0 or step == num_steps:
            show(step)
    return progress.history


def collect_transitions(seed: int) -> Batch:
    """Returns `NUM_TRANSITIONS` transitions of a random policy, by column."""
    env = gym.make("CartPole-v1")
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    rows = []
    for _ in range(NUM_TRANSITIONS):
        action = env.action_space.sample()
        new_obs, _, terminated, truncated, _ = env.step(action)
        rows.append((obs, action, new_obs))
        obs = env.reset()[0] if terminated or truncated else new_obs
    env.close()

    observations, actions, new_observations = map(np.stack, zip(*rows, strict=True))
    mean, std = observations.mean(axis=0), observations.std(axis=0)
    return {
        "obs": (observations - mean) / std,
        "actions": actions,
        "new_obs": (new_observations - mean) / std,
    }


def main() -> None:
    """Trains and prints a table."""
    options = make_parser(__doc__, num_seeds=3, num_steps=1000).parse_args()
    histories = [train(seed, options.steps) for seed in options.seeds]

    report(
        options,
        histories[0]["steps"],
        {
            "the model": [history["prediction_error"] for history in histories],
            "predicting no change": [history["no_change_error"] for history in histories],
        },
        number_format=".4f",
        title="A latent world model of CartPole",
        xlabel="training steps",
        ylabel="squared error on held-out transitions",
        yscale="log",
    )


if __name__ == "__main__":
    main()
