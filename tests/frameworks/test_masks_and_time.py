"""The modules to copy learn from what the loss mask counts alone, and take batches with a time
dimension."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from modules.actor_critic import ActorCritic
from modules.icm import ICM
from modules.latent_world_model import LatentWorldModel
from modules.rnd import RND
from modules.self_prediction import SelfPrediction
from torch import nn

from self_supervised_loss import Learner
from self_supervised_loss.testing import check_module

OBS_SIZE, NUM_ACTIONS, B, T = 4, 3, 6, 5


def self_prediction() -> SelfPrediction:
    return SelfPrediction(nn.Linear(OBS_SIZE, 8), latent_size=8, num_actions=NUM_ACTIONS)


def batch_of(shape: tuple[int, ...], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "obs": torch.randn(*shape, OBS_SIZE, generator=generator),
        "new_obs": torch.randn(*shape, OBS_SIZE, generator=generator),
        "actions": torch.randint(NUM_ACTIONS, shape, generator=generator),
        "advantages": torch.randn(shape, generator=generator),
        "value_targets": torch.randn(shape, generator=generator),
        "loss_mask": torch.rand(shape, generator=generator) < 0.6,
    }


def jax_arrays(batch: dict[str, torch.Tensor]) -> dict[str, jax.Array]:
    return {name: jax.numpy.asarray(column.numpy()) for name, column in batch.items()}


def torch_outcome(module: nn.Module, batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Returns the loss, its gradients and what was logged."""
    learner = Learner[torch.Tensor](module={"m": module})
    loss = learner.compute_losses(fwd_out={"m": module(batch)}, batch={"m": batch})["m"]
    gradients = torch.autograd.grad(
        loss, [param for param in module.parameters() if param.requires_grad]
    )
    return [
        value.detach().numpy()
        for value in (loss, *gradients, *learner.metrics.reduce()["m"].values())
    ]


def jax_outcome(module: LatentWorldModel, batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    def loss_and_metrics(
        module: LatentWorldModel, data: dict[str, jax.Array]
    ) -> tuple[jax.Array, Any]:
        learner = Learner[jax.Array](module={"m": module})
        loss = learner.compute_losses(fwd_out={"m": module(data)}, batch={"m": data})["m"]
        return loss, learner.metrics.reduce()["m"]

    compute = nnx.jit(nnx.value_and_grad(loss_and_metrics, has_aux=True))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(compute(module, jax_arrays(batch)))]


MODULES = [
    (lambda: ActorCritic(OBS_SIZE, NUM_ACTIONS), torch_outcome),
    (lambda: ICM(OBS_SIZE, NUM_ACTIONS), torch_outcome),
    (lambda: RND(OBS_SIZE), torch_outcome),
    (self_prediction, torch_outcome),
    (lambda: LatentWorldModel(OBS_SIZE, NUM_ACTIONS, rngs=nnx.Rngs(0)), jax_outcome),
]
every_module = pytest.mark.parametrize(
    ("make", "outcome"),
    MODULES,
    ids=["actor_critic", "icm", "rnd", "self_prediction", "latent_world_model"],
)
Outcome = Callable[[Any, dict[str, torch.Tensor]], list[np.ndarray]]


def assert_same(outcome: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert len(outcome) == len(other) > 2
    for one, another in zip(outcome, other, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-6)


@every_module
@pytest.mark.parametrize("shape", [(B,), (B, T)], ids=str)
def test_masked_rows_count_for_nothing(
    make: Callable[[], Any], outcome: Outcome, shape: tuple[int, ...]
) -> None:
    module, batch = make(), batch_of(shape)
    mask = batch["loss_mask"]
    counted = {name: column[mask] for name, column in batch.items() if name != "loss_mask"}
    padded = {name: column.clone() for name, column in batch.items()}
    for column in padded.values():
        column[~mask] = 0

    expected = outcome(module, counted)

    assert_same(outcome(module, batch), expected)
    assert_same(outcome(module, padded), expected)


@every_module
def test_time_steps_count_like_rows(make: Callable[[], Any], outcome: Outcome) -> None:
    module, batch = make(), batch_of((B, T))
    del batch["loss_mask"]

    assert_same(
        outcome(module, batch),
        outcome(module, {name: c.flatten(0, 1) for name, c in batch.items()}),
    )


@every_module
@pytest.mark.parametrize("shape", [(B,), (B, T)], ids=str)
def test_a_batch_without_a_row_that_counts_teaches_nothing(
    make: Callable[[], Any], outcome: Outcome, shape: tuple[int, ...]
) -> None:
    module, batch = make(), batch_of(shape)
    batch["loss_mask"] = torch.zeros(shape, dtype=torch.bool)

    *_, last_gradient = gradients = [value for value in outcome(module, batch) if value.ndim]

    assert last_gradient.size > 0
    assert not any(gradient.any() for gradient in gradients)


@every_module
@pytest.mark.parametrize("shape", [(B,), (B, T)], ids=str)
def test_the_contract_holds_with_a_mask_and_with_time(
    make: Callable[[], Any], outcome: Outcome, shape: tuple[int, ...]
) -> None:
    module, batch = make(), batch_of(shape)
    data = batch if outcome is torch_outcome else jax_arrays(batch)
    check_module(module, batch=data, fwd_out=module(data))


def test_intrinsic_rewards_have_the_leading_shape() -> None:
    batch = batch_of((B, T))
    assert ICM(OBS_SIZE, NUM_ACTIONS)(batch)["intrinsic_rewards"].shape == (B, T)
    assert RND(OBS_SIZE)(batch)["intrinsic_rewards"].shape == (B, T)
