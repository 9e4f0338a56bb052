"""The modules in `tests/modules` ignore masked rows and accept batches with a time dimension."""

import re

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from frameworks.training import data_for, loss_and_metrics
from modules import rnd_flax
from modules.actor_critic import ActorCritic
from modules.icm import ICM
from modules.latent_world_model import LatentWorldModel
from modules.rnd import RND
from modules.self_prediction import SelfPrediction
from torch import nn

from self_supervised_loss.testing import check_module

OBS_SIZE, NUM_ACTIONS, ACTION_SIZE, B, T = 4, 3, 2, 6, 5


def self_prediction(**sizes):
    return SelfPrediction(nn.Linear(OBS_SIZE, 8), latent_size=8, **sizes)


def world_model(**sizes):
    return LatentWorldModel(OBS_SIZE, rngs=nnx.Rngs(0), **sizes)


MODULES = {
    "actor_critic": lambda: ActorCritic(OBS_SIZE, NUM_ACTIONS),
    "icm": lambda: ICM(OBS_SIZE, num_actions=NUM_ACTIONS),
    "icm, continuous": lambda: ICM(OBS_SIZE, action_size=ACTION_SIZE),
    "latent_world_model": lambda: world_model(num_actions=NUM_ACTIONS),
    "latent_world_model, continuous": lambda: world_model(action_size=ACTION_SIZE),
    "rnd": lambda: RND(OBS_SIZE),
    "rnd_flax": lambda: rnd_flax.RND(OBS_SIZE, rngs=nnx.Rngs(0)),
    "self_prediction": lambda: self_prediction(num_actions=NUM_ACTIONS),
    "self_prediction, continuous": lambda: self_prediction(action_size=ACTION_SIZE),
}
every_shape = pytest.mark.parametrize("shape", [(B,), (B, T)], ids=str)


@pytest.fixture(params=MODULES.values(), ids=MODULES.keys(), scope="module")
def module(request):
    torch.manual_seed(0)
    return request.param()


def batch_for(module, shape):
    rng = np.random.default_rng(0)
    is_continuous = getattr(module, "num_actions", NUM_ACTIONS) is None
    columns = {
        "obs": rng.normal(size=(*shape, OBS_SIZE)),
        "new_obs": rng.normal(size=(*shape, OBS_SIZE)),
        "actions": rng.normal(size=(*shape, ACTION_SIZE)),
        "advantages": rng.normal(size=shape),
        "value_targets": rng.normal(size=shape),
    }
    batch = {name: column.astype(np.float32) for name, column in columns.items()}
    batch["loss_mask"] = rng.random(shape) < 0.6
    return batch if is_continuous else batch | {"actions": rng.integers(NUM_ACTIONS, size=shape)}


compute_in_jax = nnx.jit(nnx.value_and_grad(loss_and_metrics, has_aux=True))


def outcome(module, batch):
    """Returns the loss, the metrics and the gradients."""
    data = data_for(module, batch)
    if not isinstance(module, nn.Module):
        return [np.asarray(leaf) for leaf in jax.tree.leaves(compute_in_jax(module, data))]
    loss, metrics = loss_and_metrics(module, data)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    values = loss, *metrics.values(), *torch.autograd.grad(loss, trained)
    return [value.numpy(force=True) for value in values]


def assert_same(one, other):
    assert len(one) == len(other) > 2
    for value, other_value in zip(one, other, strict=True):
        np.testing.assert_allclose(value, other_value, rtol=1e-4, atol=1e-6)


@every_shape
def test_masked_rows_do_not_count(module, shape):
    batch = batch_for(module, shape)
    mask = batch["loss_mask"]
    selected = {name: column[mask] for name, column in batch.items() if name != "loss_mask"}
    padded = {name: column.copy() for name, column in batch.items()}
    for column in padded.values():
        column[~mask] = 0
    padded["loss_mask"] = mask.astype(np.float32)

    expected = outcome(module, selected)

    assert_same(outcome(module, batch), expected)
    assert_same(outcome(module, padded), expected)


def test_time_steps_count_like_rows(module):
    batch = batch_for(module, (B, T))
    del batch["loss_mask"]
    rows = {name: column.reshape(B * T, *column.shape[2:]) for name, column in batch.items()}
    assert_same(outcome(module, batch), outcome(module, rows))


@every_shape
def test_a_batch_of_masked_rows_has_a_finite_loss_and_zero_gradients(module, shape):
    batch = batch_for(module, shape) | {"loss_mask": np.zeros(shape, dtype=bool)}
    values = outcome(module, batch)
    assert all(np.isfinite(value).all() for value in values)
    gradients = [value for value in values if value.ndim]
    assert sum(gradient.size for gradient in gradients) > 0
    assert not any(gradient.any() for gradient in gradients)


@every_shape
def test_check_module_finds_nothing(module, shape):
    data = data_for(module, batch_for(module, shape))
    for fwd_out in (module(data), lambda module: module(data)):
        check_module(module, batch=data, fwd_out=fwd_out)


def assert_trailing_dimension_is_rejected(module, batch, name):
    column = batch[name]
    message = f"`{name}` must have shape {column.shape}, got {(*column.shape, 1)}. Reshape the "
    with pytest.raises(ValueError, match=re.escape(message)):
        outcome(module, batch | {name: column[..., None]})


@every_shape
def test_a_mask_with_a_trailing_dimension_is_rejected(module, shape):
    assert_trailing_dimension_is_rejected(module, batch_for(module, shape), "loss_mask")


@every_shape
@pytest.mark.parametrize("name", ["actions", "advantages", "value_targets"])
def test_actor_critic_rejects_columns_with_a_trailing_dimension(name, shape):
    module = ActorCritic(OBS_SIZE, NUM_ACTIONS)
    assert_trailing_dimension_is_rejected(module, batch_for(module, shape), name)


@pytest.mark.parametrize("make", [MODULES["icm"], MODULES["rnd"], MODULES["rnd_flax"]])
def test_intrinsic_rewards_have_one_value_per_time_step(make):
    module = make()
    data = data_for(module, batch_for(module, (B, T)))
    assert module(data)["intrinsic_rewards"].shape == (B, T)
