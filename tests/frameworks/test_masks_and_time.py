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


MODULES: dict[str, Callable[[], Any]] = {
    "actor_critic": lambda: ActorCritic(OBS_SIZE, NUM_ACTIONS),
    "icm": lambda: ICM(OBS_SIZE, NUM_ACTIONS),
    "rnd": lambda: RND(OBS_SIZE),
    "self_prediction": lambda: SelfPrediction(
        nn.Linear(OBS_SIZE, 8), latent_size=8, num_actions=NUM_ACTIONS
    ),
    "latent_world_model": lambda: LatentWorldModel(OBS_SIZE, NUM_ACTIONS, rngs=nnx.Rngs(0)),
}
every_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())
every_shape = pytest.mark.parametrize("shape", [(B,), (B, T)], ids=str)


def batch_of(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "obs": torch.randn(*shape, OBS_SIZE, generator=generator),
        "new_obs": torch.randn(*shape, OBS_SIZE, generator=generator),
        "actions": torch.randint(NUM_ACTIONS, shape, generator=generator),
        "advantages": torch.randn(shape, generator=generator),
        "value_targets": torch.randn(shape, generator=generator),
        "loss_mask": torch.rand(shape, generator=generator) < 0.6,
    }


def data_for(module: Any, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    if isinstance(module, nn.Module):
        return batch
    return {name: jax.numpy.asarray(column.numpy()) for name, column in batch.items()}


def loss_and_metrics(module: Any, data: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    learner = Learner(module={"m": module})
    loss = learner.compute_losses(fwd_out={"m": module(data)}, batch={"m": data})["m"]
    return loss, learner.metrics.reduce()["m"]


def outcome(module: Any, batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Returns the loss, what was logged, and the gradients."""
    data = data_for(module, batch)
    if not isinstance(module, nn.Module):
        compute = nnx.jit(nnx.value_and_grad(loss_and_metrics, has_aux=True))
        return [np.asarray(leaf) for leaf in jax.tree.leaves(compute(module, data))]
    loss, metrics = loss_and_metrics(module, data)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained)
    return [value.detach().numpy() for value in (loss, *metrics.values(), *gradients)]


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert len(one) == len(other) > 2
    for value, other_value in zip(one, other, strict=True):
        np.testing.assert_allclose(value, other_value, rtol=1e-4, atol=1e-6)


@every_module
@every_shape
def test_masked_rows_count_for_nothing(make: Callable[[], Any], shape: tuple[int, ...]) -> None:
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
def test_time_steps_count_like_rows(make: Callable[[], Any]) -> None:
    module, batch = make(), batch_of((B, T))
    del batch["loss_mask"]
    rows = {name: column.flatten(0, 1) for name, column in batch.items()}
    assert_same(outcome(module, batch), outcome(module, rows))


@every_module
@every_shape
def test_a_batch_without_a_row_that_counts_teaches_nothing(
    make: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    module, batch = make(), batch_of(shape)
    batch["loss_mask"] = torch.zeros(shape, dtype=torch.bool)
    gradients = [value for value in outcome(module, batch) if value.ndim]
    assert sum(gradient.size for gradient in gradients) > 0
    assert not any(gradient.any() for gradient in gradients)


@every_module
@every_shape
def test_the_contract_holds_with_a_mask_and_with_time(
    make: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    module = make()
    data = data_for(module, batch_of(shape))
    check_module(module, batch=data, fwd_out=module(data))


def test_intrinsic_rewards_have_the_leading_shape() -> None:
    batch = batch_of((B, T))
    assert ICM(OBS_SIZE, NUM_ACTIONS)(batch)["intrinsic_rewards"].shape == (B, T)
    assert RND(OBS_SIZE)(batch)["intrinsic_rewards"].shape == (B, T)
