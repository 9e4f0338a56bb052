"""The modules in `tests/modules` learn, ignore masked rows, accept batches with a time dimension,
and reject columns of another type or shape."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from modules import rnd, rnd_flax
from modules.actor_critic import ActorCritic
from modules.icm import ICM
from modules.latent_world_model import LatentWorldModel
from modules.self_prediction import SelfPrediction
from torch import nn

from self_supervised_loss import Learner
from self_supervised_loss.testing import check_module

OBS_SIZE, ACTION_SIZE, NUM_ACTIONS, LATENT_SIZE, B, T = 4, 2, 3, 32, 6, 5
DISCRETE, CONTINUOUS = {"num_actions": NUM_ACTIONS}, {"action_size": ACTION_SIZE}


def make_self_prediction(**sizes):
    encoder = nn.Sequential(nn.Linear(OBS_SIZE, LATENT_SIZE), nn.Tanh())
    return SelfPrediction(encoder, latent_size=LATENT_SIZE, tau=0.05, **sizes)


WITH_ACTIONS = {
    "icm": partial(ICM, OBS_SIZE),
    "self_prediction": make_self_prediction,
    "latent_world_model": lambda **sizes: LatentWorldModel(OBS_SIZE, rngs=nnx.Rngs(0), **sizes),
}
WITH_REWARDS = {
    "rnd": lambda: rnd.RND(OBS_SIZE),
    "rnd_flax": lambda: rnd_flax.RND(OBS_SIZE, rngs=nnx.Rngs(0)),
}
MODULES = {
    "actor_critic": lambda: ActorCritic(OBS_SIZE, NUM_ACTIONS),
    **{f"{name}, discrete": partial(make, **DISCRETE) for name, make in WITH_ACTIONS.items()},
    **{f"{name}, continuous": partial(make, **CONTINUOUS) for name, make in WITH_ACTIONS.items()},
    **WITH_REWARDS,
}
every_shape = pytest.mark.parametrize("shape", [(B,), (B, T)], ids=str)


@pytest.fixture(params=MODULES.values(), ids=MODULES.keys(), scope="module")
def module(request):
    torch.manual_seed(0)
    return request.param()


@pytest.fixture(params=WITH_ACTIONS.values(), ids=WITH_ACTIONS.keys())
def make(request):
    torch.manual_seed(0)
    return request.param


def batch_for(module, shape, seed=0):
    """Returns random columns, in which a continuous action is the step to the next observation."""
    rng = np.random.default_rng(seed)
    obs, actions = rng.normal(size=(*shape, OBS_SIZE)), rng.normal(size=(*shape, ACTION_SIZE))
    columns = {"obs": obs, "actions": actions, "new_obs": obs + np.tile(actions, 2)}
    columns |= {"advantages": rng.normal(size=shape), "value_targets": rng.normal(size=shape)}
    batch = {name: column.astype(np.float32) for name, column in columns.items()}
    if getattr(module, "num_actions", NUM_ACTIONS) is not None:
        batch["actions"] = rng.integers(NUM_ACTIONS, size=shape)
    return batch


def data_for(module, batch):
    """Converts a batch to the module's framework."""
    convert = torch.as_tensor if isinstance(module, nn.Module) else jnp.asarray
    return {name: convert(column) for name, column in batch.items()}


def loss_and_metrics(module, data, fwd_out=None):
    learner = Learner(module={"m": module})
    fwd_out = module(data) if fwd_out is None else fwd_out
    losses = learner.compute_losses(fwd_out={"m": fwd_out}, batch={"m": data})
    return losses["m"], learner.metrics.reduce()["m"]


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


# Masks and time


def mask_for(shape):
    return np.random.default_rng(1).random(shape) < 0.6


@every_shape
def test_masked_rows_do_not_count(module, shape):
    batch, mask = batch_for(module, shape), mask_for(shape)
    selected = outcome(module, {name: column[mask] for name, column in batch.items()})
    assert_same(outcome(module, batch | {"loss_mask": mask}), selected)

    for column in batch.values():
        column[~mask] = 0
    assert_same(outcome(module, batch | {"loss_mask": mask.astype(np.float32)}), selected)


def test_time_steps_count_like_rows(module):
    batch = batch_for(module, (B, T))
    rows = {name: column.reshape(B * T, *column.shape[2:]) for name, column in batch.items()}
    assert_same(outcome(module, batch), outcome(module, rows))


@every_shape
def test_a_batch_of_masked_rows_has_a_finite_loss_and_zero_gradients(module, shape):
    values = outcome(module, batch_for(module, shape) | {"loss_mask": np.zeros(shape, bool)})
    assert all(np.isfinite(value).all() for value in values)
    gradients = [value for value in values if value.ndim]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


@every_shape
def test_check_module_finds_nothing(module, shape):
    data = data_for(module, batch_for(module, shape) | {"loss_mask": mask_for(shape)})
    for fwd_out in (module(data), lambda module: module(data)):
        check_module(module, batch=data, fwd_out=fwd_out)


@every_shape
def test_columns_with_a_trailing_dimension_are_rejected(module, shape):
    batch = batch_for(module, shape) | {"loss_mask": mask_for(shape)}
    checked = ["loss_mask"]
    if isinstance(module, ActorCritic):
        checked += ["actions", "advantages", "value_targets"]
    elif hasattr(module, "num_actions"):
        checked += ["actions"]
    for name in checked:
        column = batch[name]
        message = f"`{name}` must have shape {column.shape}, got {(*column.shape, 1)}. Reshape the "
        with pytest.raises(ValueError, match=re.escape(message)):
            outcome(module, batch | {name: column[..., None]})


# Discrete and continuous actions


def train(module, batches, *, lr):
    """Trains with weight decay, which also changes trainable weights without a gradient."""
    (_train_torch if isinstance(module, nn.Module) else _train_flax)(module, batches, lr)


def _train_torch(module, batches, lr):
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.01)
    for batch in batches:
        loss, _ = loss_and_metrics(module, data_for(module, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(module, SelfPrediction):
            module.update_target()


def _train_flax(module, batches, lr):
    optimizer = nnx.Optimizer(module, optax.adamw(lr, weight_decay=0.01), wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer, batch):
        gradients, _ = nnx.grad(loss_and_metrics, has_aux=True)(module, batch)
        optimizer.update(module, gradients)

    for batch in batches:
        step(module, optimizer, batch)


ERRORS = ("forward_loss", "inverse_loss", "prediction_loss", "prediction_error")


def errors(module, batch):
    """Returns the logged errors that depend on actions."""
    _, metrics = loss_and_metrics(module, data_for(module, batch))
    return np.array([metrics[name].item() for name in ERRORS if name in metrics])


def test_it_learns_from_continuous_actions(make):
    module = make(**CONTINUOUS)
    batch = batch_for(module, (256,), seed=1000)
    before = errors(module, batch)

    train(module, (batch_for(module, (256,), seed) for seed in range(100)), lr=1e-2)

    after = errors(module, batch)
    assert (after < 0.05 * before).all()
    actions_of_other_rows = batch["actions"][::-1].copy()
    assert (errors(module, batch | {"actions": actions_of_other_rows}) > 3 * after).all()


@pytest.mark.parametrize(
    ("sizes", "actions", "predicted", "inverse_loss"),
    [
        (DISCRETE, torch.zeros(B, dtype=torch.long), torch.zeros(B, NUM_ACTIONS), np.log(3)),
        (CONTINUOUS, torch.ones(B, ACTION_SIZE), torch.full((B, ACTION_SIZE), 3.0), 4.0),
    ],
    ids=["cross-entropy", "least squares"],
)
def test_the_loss_of_icm_weighs_two_errors(sizes, actions, predicted, inverse_loss):
    fwd_out = {"intrinsic_rewards": torch.ones(B), "predicted_actions": predicted}
    module = ICM(OBS_SIZE, **sizes, beta=0.25)
    loss, metrics = loss_and_metrics(module, {"actions": actions}, fwd_out)
    assert metrics == pytest.approx({"forward_loss": 1.0, "inverse_loss": inverse_loss})
    assert loss.item() == pytest.approx(0.25 * 1.0 + 0.75 * inverse_loss)


@pytest.mark.parametrize(
    ("sizes", "dtypes"),
    [
        (DISCRETE, ["uint8", "int32", "int64"]),
        (CONTINUOUS, ["float16", "float32", "float64"]),
    ],
)
def test_the_width_of_the_dtype_does_not_matter(make, sizes, dtypes):
    module = make(**sizes)
    batch = batch_for(module, (256,))
    losses = [
        loss_and_metrics(module, data_for(module, batch | {"actions": actions}))[0].item()
        for actions in map(batch["actions"].astype, dtypes)
    ]
    assert losses == pytest.approx([losses[1]] * 3, rel=1e-3)


@pytest.mark.parametrize("sizes", [{}, {**DISCRETE, **CONTINUOUS}], ids=["none", "both"])
def test_the_constructor_requires_exactly_one_size(make, sizes):
    with pytest.raises(TypeError, match=r"takes either `num_actions`.* or `action_size`.*, got "):
        make(**sizes)


@pytest.mark.parametrize(
    ("sizes", "shape", "dtype", "message"),
    [
        (DISCRETE, (B, 2), "float32", r"must be integers, got .*float32\. .*`action_size`"),
        (CONTINUOUS, (B,), "int32", r"must be floats, got .*int32\. .*`num_actions`"),
        ({"action_size": 1}, (B,), "float32", r"must have shape \(6, 1\), got \(6,\)\. Reshape"),
        (CONTINUOUS, (B, 3), "float32", r"must have shape \(6, 2\), got \(6, 3\)\. Reshape"),
    ],
)
def test_actions_of_the_wrong_kind_or_shape_are_rejected(make, sizes, shape, dtype, message):
    module = make(**sizes)
    batch = batch_for(module, (B,)) | {"actions": np.zeros(shape, dtype)}
    with pytest.raises(ValueError, match=f"`actions` {message}"):
        module(data_for(module, batch))


def test_actor_critic_rejects_floats_as_actions():
    module = MODULES["actor_critic"]()
    batch = batch_for(module, (B,)) | {"actions": np.zeros(B, np.float32)}
    with pytest.raises(ValueError, match=r"`actions` must be integers, got torch\.float32\. "):
        outcome(module, batch)


@pytest.mark.parametrize("sizes", [DISCRETE, CONTINUOUS], ids=str)
@pytest.mark.parametrize("name", ["icm", "self_prediction"])
def test_the_checks_compile_into_one_graph(name, sizes):
    module = WITH_ACTIONS[name](**sizes)
    data = data_for(module, batch_for(module, (B,)) | {"loss_mask": mask_for((B,))})
    compiled = torch.compile(loss_and_metrics, fullgraph=True, dynamic=True, backend="eager")
    torch.testing.assert_close(compiled(module, data), loss_and_metrics(module, data))


# RND


@pytest.mark.parametrize("name", WITH_REWARDS)
def test_the_rewards_of_observations_fall_with_training_on_them(name):
    torch.manual_seed(0)
    module, observations = WITH_REWARDS[name](), np.eye(OBS_SIZE, dtype=np.float32)
    data = data_for(module, {"new_obs": observations})

    def evaluate():
        nets = module.target_net, module.predictor_net
        arrays = *(net(data["new_obs"]) for net in nets), module(data)["intrinsic_rewards"]
        return [np.array(array.tolist()) for array in arrays]

    target, _, before = evaluate()
    train(module, [{"new_obs": observations[:2]}] * 500, lr=1e-3)
    new_target, predicted, after = evaluate()

    assert (new_target == target).all()  # only the predictor is trained
    assert after == pytest.approx(np.square(predicted - target).mean(axis=-1))
    assert (after[:2] < 0.01 * before[:2]).all()
    assert (after[2:] > 10 * after[:2].max()).all()


def test_in_jax_the_gradient_of_the_whole_state_stops_at_the_target():
    def loss(module):
        return module({"new_obs": jnp.eye(OBS_SIZE)})["intrinsic_rewards"].mean()

    gradients = jax.grad(loss)(WITH_REWARDS["rnd_flax"]())
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients.target_net))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients.predictor_net))


# Self-prediction


@pytest.mark.parametrize(("factor", "expected"), [(3.0, 0.0), (-2.0, 2.0)])
def test_self_prediction_compares_directions_and_logs_the_variance(factor, expected):
    # Only one of the components of the latents differs between the two observations.
    latents, targets = torch.ones(2, LATENT_SIZE), torch.randn(2, 32)
    latents[:, 0] = torch.tensor([0.0, 2.0])
    fwd_out = {"latents": latents, "predictions": factor * targets, "targets": targets}
    loss, metrics = loss_and_metrics(make_self_prediction(**DISCRETE), {}, fwd_out)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics == {"prediction_loss": loss, "latent_variance": 2 / LATENT_SIZE}


def test_self_prediction_returns_the_latents_of_its_encoder():
    module = make_self_prediction(**DISCRETE)
    data = data_for(module, batch_for(module, (B,)))
    assert module(data)["latents"].equal(module.encoder(data["obs"]))


def test_an_update_moves_the_target_by_the_fraction_tau():
    module = make_self_prediction(**DISCRETE)
    online = [*module.encoder.parameters(), *module.projection_net.parameters()]
    before = [parameter.clone() for parameter in module.target.parameters()]
    for parameter in online:
        nn.init.normal_(parameter)

    module.update_target()

    expected = [0.95 * old + 0.05 * new for old, new in zip(before, online, strict=True)]
    torch.testing.assert_close([*module.target.parameters()], expected)
