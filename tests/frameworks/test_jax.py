"""JAX: modules of Flax NNX, Flax Linen and Equinox under `jit`, `value_and_grad` and `vmap`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI

OBS_SIZE = 4


class PredictsNextObs(SelfSupervisedLossAPI[jax.Array]):
    """The loss of the three modules below, which predict the next observation."""

    def compute_self_supervised_loss(
        self, *, learner: Any, module_id: str, batch: Any, fwd_out: Any, **kwargs: Any
    ) -> jax.Array:
        loss = jnp.square(fwd_out["predicted_new_obs"] - batch["new_obs"]).mean()
        learner.metrics.log_value((module_id, "loss"), loss)
        learner.metrics.log_dict(
            {"root": jnp.sqrt(loss), "large": loss > 1.0}, key=module_id, reduce="max"
        )
        return loss * kwargs.get("scale", 1.0)


class NNXModel(nnx.Module, PredictsNextObs):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.net = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=rngs)

    def __call__(self, obs: jax.Array) -> dict[str, jax.Array]:
        return {"predicted_new_obs": self.net(obs)}


class LinenModel(linen.Module, PredictsNextObs):
    @linen.compact
    def __call__(self, obs: jax.Array) -> dict[str, jax.Array]:
        return {"predicted_new_obs": linen.Dense(OBS_SIZE)(obs)}


class EquinoxModel(eqx.Module, PredictsNextObs):
    net: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        self.net = eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=key)

    def __call__(self, obs: jax.Array) -> dict[str, jax.Array]:
        return {"predicted_new_obs": obs @ self.net.weight.T + self.net.bias}


class Case(NamedTuple):
    """A module as a function of its parameters."""

    params: Any
    bind: Callable[[Any], Any]  # returns the module that has these parameters


def nnx_case() -> Case:
    graph, params = nnx.split(NNXModel(nnx.Rngs(0)))
    return Case(params, lambda params: nnx.merge(graph, params))


def linen_case() -> Case:
    model = LinenModel()
    return Case(model.init(jax.random.key(0), jnp.zeros(OBS_SIZE)), model.bind)


def equinox_case() -> Case:
    params, static = eqx.partition(EquinoxModel(jax.random.key(0)), eqx.is_array)
    return Case(params, lambda params: eqx.combine(params, static))


CASES = {"nnx": nnx_case(), "linen": linen_case(), "equinox": equinox_case()}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(autouse=True)
def no_tracer_leaks() -> Iterator[None]:
    with jax.checking_leaks():
        yield


def make_batch(*shape: int) -> dict[str, jax.Array]:
    obs_key, new_obs_key = jax.random.split(jax.random.key(1))
    return {
        "obs": jax.random.normal(obs_key, (*shape, OBS_SIZE)),
        "new_obs": 2 * jax.random.normal(new_obs_key, (*shape, OBS_SIZE)),
    }


def dispatched(case: Case) -> Callable[..., tuple[jax.Array, dict[str, Any]]]:
    """Returns the loss and the metrics as a function of the parameters, as `has_aux` wants it."""

    def loss_and_metrics(params: Any, batch: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
        module = case.bind(params)
        learner = Learner[jax.Array](module={"model": module})
        fwd_out = {"model": module(batch["obs"])}
        losses = learner.compute_losses(fwd_out=fwd_out, batch={"model": batch})
        return losses["model"], learner.metrics.reduce()

    return loss_and_metrics


def direct(case: Case) -> Callable[..., tuple[jax.Array, dict[str, Any]]]:
    """Returns the same by calls of the loss method."""

    def loss_and_metrics(params: Any, batch: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
        module, learner = case.bind(params), Learner[jax.Array](module={})
        loss = module.compute_self_supervised_loss(
            learner=learner, module_id="model", batch=batch, fwd_out=module(batch["obs"])
        )
        return loss, learner.metrics.reduce()

    return loss_and_metrics


assert_close = partial(np.testing.assert_allclose, rtol=1e-5)

TRANSFORMATIONS: dict[str, Callable[..., Any]] = {
    "jit": jax.jit,
    "grad": lambda function: jax.grad(function, has_aux=True),
    "vmap": lambda function: jax.vmap(function, in_axes=(None, 0)),
    "jit of vmap of value_and_grad": lambda function: jax.jit(
        jax.vmap(jax.value_and_grad(function, has_aux=True), in_axes=(None, 0))
    ),
}


@each_case
@pytest.mark.parametrize("transform", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS.keys())
def test_a_transformed_dispatch_equals_the_direct_computation(
    case: Case, transform: Callable[..., Any]
) -> None:
    batch = make_batch(3, 8)  # three batches for vmap, and otherwise a larger one

    result = transform(dispatched(case))(case.params, batch)

    expected = transform(direct(case))(case.params, batch)
    jax.tree.map(np.testing.assert_array_equal, result, expected)


@each_case
def test_dispatch_adds_no_operation_to_those_of_the_module(case: Case) -> None:
    operations = jax.make_jaxpr(dispatched(case))(case.params, make_batch(8))
    assert str(operations) == str(jax.make_jaxpr(direct(case))(case.params, make_batch(8)))


def test_modules_train_beside_one_another_and_get_what_else_the_step_passes() -> None:
    batch = make_batch(8)

    @jax.jit
    @jax.grad
    def gradients(params: dict[str, Any], scale: float) -> jax.Array:
        modules = {name: case.bind(params[name]) for name, case in CASES.items()}
        fwd_out = {name: module(batch["obs"]) for name, module in modules.items()}
        losses = Learner[jax.Array](module=modules).compute_losses(
            fwd_out=fwd_out, batch=dict.fromkeys(modules, batch), scale=scale
        )
        return sum(losses.values(), start=jnp.zeros(()))

    all_gradients = gradients({name: case.params for name, case in CASES.items()}, 0.5)

    for name, case in CASES.items():
        alone, _ = jax.grad(direct(case), has_aux=True)(case.params, batch)
        jax.tree.map(assert_close, all_gradients[name], jax.tree.map(lambda g: 0.5 * g, alone))


REDUCTIONS = ["mean", "min", "max", "sum", "item"]
SETTINGS: list[dict[str, Any]] = [
    *({"reduce": reduce} for reduce in REDUCTIONS),
    *({"reduce": reduce, "window": 2} for reduce in REDUCTIONS),
    {"reduce": "ema", "ema_coeff": 0.25},
]


def log(values: jax.Array) -> dict[str, Any]:
    metrics = MetricsLogger()
    for value in values:
        for setting in SETTINGS:
            metrics.log_dict({"value": value, "bool": value > 2.0}, key=str(setting), **setting)
    return metrics.reduce()


@pytest.mark.parametrize(
    "transform", [jax.jit, lambda function: jax.vmap(function, in_axes=1)], ids=["jit", "vmap"]
)
def test_every_way_to_reduce_can_be_traced(transform: Callable[..., Any]) -> None:
    values = jnp.array([[1.0, 4.0], [4.0, 7.0], [2.0, 1.0], [3.0, 0.0]])
    jax.tree.map(assert_close, transform(log)(values), log(values))
