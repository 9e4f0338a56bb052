"""The constructors of the modules in `tests/modules` choose discrete or continuous actions."""

import numpy as np
import pytest
import torch
from flax import nnx
from frameworks.training import data_for, loss_and_metrics, train
from modules.actor_critic import ActorCritic
from modules.icm import ICM
from modules.latent_world_model import LatentWorldModel
from modules.self_prediction import SelfPrediction
from torch import nn

from self_supervised_loss import Learner

SIZE, NUM_ACTIONS, B = 2, 3, 256  # observations and continuous actions have the same size


def make_self_prediction(**sizes):
    encoder = nn.Sequential(nn.Linear(SIZE, 32), nn.Tanh())
    return SelfPrediction(encoder, latent_size=32, tau=0.05, **sizes)


MODULES = {
    "icm": lambda **sizes: ICM(SIZE, **sizes),
    "self_prediction": make_self_prediction,
    "latent_world_model": lambda **sizes: LatentWorldModel(SIZE, rngs=nnx.Rngs(0), **sizes),
}


@pytest.fixture(params=MODULES.values(), ids=MODULES.keys())
def make(request):
    torch.manual_seed(0)
    return request.param


def moves(seed):
    """Returns transitions of a point in the plane. An action is the vector that moves the point."""
    rng = np.random.default_rng(seed)
    obs, actions = rng.normal(size=(B, SIZE)), rng.uniform(-1, 1, size=(B, SIZE))
    batch = {"obs": obs, "actions": actions, "new_obs": obs + actions}
    return {name: column.astype(np.float32) for name, column in batch.items()}


ERRORS = ("forward_loss", "inverse_loss", "prediction_loss", "prediction_error")


def errors(module, batch):
    """Returns the logged errors that depend on actions."""
    _, metrics = loss_and_metrics(module, data_for(module, batch))
    return np.array([metrics[name].item() for name in ERRORS if name in metrics])


def test_it_learns_from_continuous_actions(make):
    module, batch = make(action_size=SIZE), moves(seed=1000)
    before = errors(module, batch)

    train(module, map(moves, range(100)), lr=1e-2)

    after = errors(module, batch)
    assert (after < 0.05 * before).all()
    actions_of_other_rows = batch["actions"][::-1].copy()
    assert (errors(module, batch | {"actions": actions_of_other_rows}) > 3 * after).all()


def test_icm_predicts_continuous_actions_by_least_squares():
    actions = torch.randn(B, SIZE)
    fwd_out = {"intrinsic_rewards": torch.ones(B), "predicted_actions": actions + 2.0}
    losses = Learner(module={"icm": ICM(SIZE, action_size=SIZE, beta=0.25)}).compute_losses(
        fwd_out={"icm": fwd_out}, batch={"icm": {"actions": actions}}
    )
    assert losses["icm"].item() == pytest.approx(0.25 * 1.0 + 0.75 * 4.0)


@pytest.mark.parametrize(
    ("sizes", "dtypes"),
    [
        ({"num_actions": NUM_ACTIONS}, ["uint8", "int32", "int64"]),
        ({"action_size": SIZE}, ["float16", "float32", "float64"]),
    ],
)
def test_the_width_of_the_dtype_does_not_matter(make, sizes, dtypes):
    module, batch = make(**sizes), moves(seed=0)
    if "num_actions" in sizes:
        batch["actions"] = np.arange(B) % NUM_ACTIONS
    losses = [
        loss_and_metrics(module, data_for(module, batch | {"actions": actions}))[0].item()
        for actions in map(batch["actions"].astype, dtypes)
    ]
    assert losses == pytest.approx([losses[1]] * 3, rel=1e-3)


@pytest.mark.parametrize(
    "sizes", [{}, {"num_actions": NUM_ACTIONS, "action_size": SIZE}], ids=["none", "both"]
)
def test_the_constructor_requires_exactly_one_size(make, sizes):
    with pytest.raises(TypeError, match=r"takes either `num_actions`.* or `action_size`.*, got "):
        make(**sizes)


WRONG_ACTIONS = {
    "floats": (
        {"num_actions": NUM_ACTIONS},
        np.zeros((B, SIZE), np.float32),
        r"`actions` must be integers, got .*float32\. .*`action_size`",
    ),
    "integers": (
        {"action_size": SIZE},
        np.zeros(B, np.int32),
        r"`actions` must be floats, got .*int32\. .*`num_actions`",
    ),
    "discrete, (B, 1)": (
        {"num_actions": NUM_ACTIONS},
        np.zeros((B, 1), np.int32),
        rf"`actions` must have shape \({B},\), got \({B}, 1\)\. Reshape",
    ),
    "continuous, (B,)": (
        {"action_size": 1},
        np.zeros(B, np.float32),
        rf"`actions` must have shape \({B}, 1\), got \({B},\)\. Reshape",
    ),
    "continuous, too wide": (
        {"action_size": SIZE},
        np.zeros((B, SIZE + 1), np.float32),
        rf"`actions` must have shape \({B}, {SIZE}\), got \({B}, {SIZE + 1}\)\. Reshape",
    ),
}


@pytest.mark.parametrize(
    ("sizes", "actions", "message"), WRONG_ACTIONS.values(), ids=WRONG_ACTIONS.keys()
)
def test_actions_of_the_wrong_kind_or_shape_are_rejected(make, sizes, actions, message):
    module = make(**sizes)
    with pytest.raises(ValueError, match=message):
        module(data_for(module, moves(seed=0) | {"actions": actions}))


def test_actor_critic_rejects_floats_as_actions():
    module, rows = ActorCritic(SIZE, NUM_ACTIONS), torch.zeros(B)
    batch = {"obs": torch.zeros(B, SIZE), "actions": rows, "advantages": rows}
    with pytest.raises(ValueError, match=r"`actions` must be integers, got torch\.float32\. "):
        loss_and_metrics(module, batch | {"value_targets": rows})


@pytest.mark.parametrize("sizes", [{"num_actions": NUM_ACTIONS}, {"action_size": SIZE}], ids=str)
@pytest.mark.parametrize("name", ["icm", "self_prediction"])
def test_the_checks_compile_into_one_graph(name, sizes):
    module, batch = MODULES[name](**sizes), moves(seed=0)
    if "num_actions" in sizes:
        batch["actions"] = np.arange(B) % NUM_ACTIONS
    data = data_for(module, batch | {"loss_mask": np.arange(B) < 200})

    compiled = torch.compile(loss_and_metrics, fullgraph=True, dynamic=True, backend="eager")

    torch.testing.assert_close(compiled(module, data), loss_and_metrics(module, data))
