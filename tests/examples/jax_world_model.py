"""A latent world model in JAX: it learns to predict what CartPole looks like after an action.

A random policy collects transitions of Gymnasium's CartPole-v1. A Flax module (`tests/modules/latent_world_model.py`)
learns on them with Optax, under `nnx.jit`. Then it predicts transitions that it has not seen.

    python tests/examples/jax_world_model.py
    python tests/examples/jax_world_model.py --seeds 0 1 --steps 3000

This example needs the extra jax: pip install -e '.[jax]'

Where to look: `compute_loss` asks the module for its own loss through a `Learner`. What the module logs while it is
traced leaves the compiled function beside the loss, as the auxiliary value of `value_and_grad`.

Observations are standardised, so that errors have no unit. The last column is the error of predicting that nothing
changes. The same seed gives the same numbers on the same machine.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

try:
    import gymnasium as gym
    import jax
    import numpy as np
    import optax
    from flax import nnx
    from tqdm import tqdm

    from self_supervised_loss import Learner
except ModuleNotFoundError as error:
    sys.exit(f"The package {error.name} is missing. This example needs the extra jax: pip install -e '.[jax]'")

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.options import whole_number
from modules.latent_world_model import LatentWorldModel

NUM_TRANSITIONS = 10_000
NUM_HELD_OUT = 2_000
BATCH_SIZE = 256
LEARNING_RATE = 1e-3

Batch = dict[str, Any]


class Result(NamedTuple):
    """How well one model predicts the held-out transitions."""

    seed: int
    loss_before: float
    loss_after: float
    prediction_error: float
    no_change_error: float


def compute_loss(model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the loss of the model, and what the model has logged."""
    learner = Learner[jax.Array](module={"world_model": model})
    losses = learner.compute_losses(fwd_out={"world_model": model(batch)}, batch={"world_model": batch})
    return losses["world_model"], learner.metrics.reduce()


evaluate = nnx.jit(compute_loss)


@nnx.jit
def train_step(model: nnx.Module, optimizer: nnx.Optimizer, batch: Batch) -> dict[str, Any]:
    (_, metrics), gradients = nnx.value_and_grad(compute_loss, has_aux=True)(model, batch)
    optimizer.update(model, gradients)
    return metrics


def train(seed: int, num_steps: int) -> Result:
    """Trains a new model, and compares it with itself before and with predicting no change."""
    transitions = collect_transitions(seed)
    held_out = {column: rows[-NUM_HELD_OUT:] for column, rows in transitions.items()}
    model = LatentWorldModel(obs_size=4, num_actions=2, rngs=nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)
    loss_before, _ = evaluate(model, held_out)

    rng = np.random.default_rng(seed)
    with tqdm(range(num_steps), desc=f"seed {seed}", unit="step") as progress:
        for step in progress:
            indices = rng.integers(NUM_TRANSITIONS - NUM_HELD_OUT, size=BATCH_SIZE)
            metrics = train_step(model, optimizer, {column: rows[indices] for column, rows in transitions.items()})
            if step % 100 == 0:
                progress.set_postfix_str(f"prediction error {metrics['world_model']['prediction_error']:.4f}")

    loss_after, metrics = evaluate(model, held_out)
    no_change_error = np.square(held_out["new_obs"] - held_out["obs"]).mean()
    errors = (loss_before, loss_after, metrics["world_model"]["prediction_error"], no_change_error)
    return Result(seed, *map(float, errors))


def collect_transitions(seed: int) -> Batch:
    """Lets a random policy act, and returns what happened in columns of `NUM_TRANSITIONS` rows."""
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
    return {"obs": (observations - mean) / std, "actions": actions, "new_obs": (new_observations - mean) / std}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=whole_number(0, 2**32 - 1), nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--steps", type=whole_number(1, 10**9), default=1000, help="of training per seed, default: 1000"
    )
    options = parser.parse_args()

    results = [train(seed, options.steps) for seed in options.seeds]

    print(f"\n{'seed':>4}  {'loss before':>11}  {'loss after':>10}  {'prediction error':>16}  {'no-change error':>15}")
    for seed, before, after, prediction, no_change in results:
        print(f"{seed:>4}  {before:>11.4f}  {after:>10.4f}  {prediction:>16.4f}  {no_change:>15.4f}")


if __name__ == "__main__":
    main()
