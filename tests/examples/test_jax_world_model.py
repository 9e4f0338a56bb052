"""The JAX example runs, learns, and says what is wrong with its options."""

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from examples import jax_world_model
from flax import nnx
from modules.latent_world_model import LatentWorldModel

PROGRAM = Path(jax_world_model.__file__)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def test_a_short_training_halves_the_loss_and_beats_predicting_no_change() -> None:
    result = jax_world_model.train(seed=0, num_steps=200)

    assert result.loss_after < result.loss_before / 2
    assert result.prediction_error < result.no_change_error / 2
    assert jax_world_model.train(seed=0, num_steps=200) == result


def test_the_loss_is_the_one_that_the_module_brings() -> None:
    model = LatentWorldModel(obs_size=4, num_actions=2, rngs=nnx.Rngs(0))
    batch = jax_world_model.collect_transitions(seed=0)
    fwd_out = model(batch)

    loss, metrics = jax_world_model.compute_loss(model, batch)

    assert metrics["world_model"] == {
        "prediction_error": jnp.square(fwd_out["predicted_new_obs"] - batch["new_obs"]).mean(),
        "reconstruction_error": jnp.square(fwd_out["predicted_obs"] - batch["obs"]).mean(),
    }
    assert loss == sum(metrics["world_model"].values())


def test_the_program_shows_its_progress_and_a_row_per_seed() -> None:
    completed = run("-W", "error", str(PROGRAM), "--seeds", "0", "3", "--steps", "2")

    assert completed.returncode == 0, completed.stderr
    assert "seed 3: 100%" in completed.stderr
    assert [line.split()[0] for line in completed.stdout.splitlines() if line] == ["seed", "0", "3"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--steps", "0"], "argument --steps: '0' is not a whole number from 1 to 1000000000"),
        (["--steps", "many"], "argument --steps: 'many' is not a whole number from 1 to 1000000000"),
        (["--seeds", "-1"], "argument --seeds"),
        (["--seeds", "0.5"], "argument --seeds: '0.5' is not a whole number from 0 to 4294967295"),
        (["--stepz", "5"], "unrecognized arguments: --stepz 5"),
    ],
)
def test_a_mistyped_option_is_named(arguments: list[str], complaint: str) -> None:
    completed = run(str(PROGRAM), *arguments)

    assert completed.returncode == 2
    assert complaint in completed.stderr


def test_help_says_what_the_program_does() -> None:
    completed = run(str(PROGRAM), "--help")

    assert completed.returncode == 0
    assert jax_world_model.__doc__.splitlines()[0] in completed.stdout


def test_without_jax_it_says_what_to_install() -> None:
    without_jax = f"import runpy, sys; sys.modules['jax'] = None; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    completed = run("-c", without_jax)

    assert completed.returncode == 1
    remedy = "This example needs the extra jax: pip install -e '.[jax]'"
    assert completed.stderr == f"The package jax is missing. {remedy}\n"
