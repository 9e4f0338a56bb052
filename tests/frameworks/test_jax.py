"""JAX: modules of Flax NNX, Flax Linen and Equinox under `jit`, `value_and_grad` and `vmap`."""

from functools import partial

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

    def compute_self_supervised_loss(self, *, learner, module_id, batch, fwd_out, **kwargs):
        loss = jnp.square(fwd_out["predicted_new_obs"] - batch["new_obs"]).mean()
        learner.metrics.log_value((module_id, "loss"), loss)
        learner.metrics.log_dict(
            {"root": jnp.sqrt(loss), "large": loss > 1.0}, key=module_id, reduce="max"
        )
        return loss * kwargs.get("scale", 1.0)


class NNXModel(nnx.Module, PredictsNextObs):
    def __init__(self, rngs):
        self.net = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=rngs)

    def __call__(self, obs):
        return {"predicted_new_obs": self.net(obs)}


class LinenModel(linen.Module, PredictsNextObs):
    @linen.compact
    def __call__(self, obs):
        return {"predicted_new_obs": linen.Dense(OBS_SIZE)(obs)}


class EquinoxModel(eqx.Module, PredictsNextObs):
    net: eqx.nn.Linear

    def __init__(self, key):
        self.net = eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=key)

    def __call__(self, obs):
        return {"predicted_new_obs": obs @ self.net.weight.T + self.net.bias}


def nnx_case():
    graph, params = nnx.split(NNXModel(nnx.Rngs(0)))
    return params, lambda params: nnx.merge(graph, params)


def linen_case():
    model = LinenModel()
    return model.init(jax.random.key(0), jnp.zeros(OBS_SIZE)), model.bind


def equinox_case():
    params, static = eqx.partition(EquinoxModel(jax.random.key(0)), eqx.is_array)
    return params, lambda params: eqx.combine(params, static)


# The parameters of each module, and the function that binds the module to parameters
CASES = {"nnx": nnx_case(), "linen": linen_case(), "equinox": equinox_case()}


@pytest.fixture(autouse=True)
def no_tracer_leaks():
    with jax.checking_leaks():
        yield


def make_batch(*shape):
    obs_key, new_obs_key = jax.random.split(jax.random.key(1))
    return {
        "obs": jax.random.normal(obs_key, (*shape, OBS_SIZE)),
        "new_obs": 2 * jax.random.normal(new_obs_key, (*shape, OBS_SIZE)),
    }


def dispatched(module, batch):
    learner = Learner(module={"model": module})
    fwd_out = {"model": module(batch["obs"])}
    losses = learner.compute_losses(fwd_out=fwd_out, batch={"model": batch})
    return losses["model"], learner.metrics.reduce()


def direct(module, batch):
    learner = Learner(module={})
    loss = module.compute_self_supervised_loss(
        learner=learner, module_id="model", batch=batch, fwd_out=module(batch["obs"])
    )
    return loss, learner.metrics.reduce()


@pytest.mark.parametrize(("params", "bind"), CASES.values(), ids=CASES.keys())
def test_a_dispatch_adds_no_operation_to_those_of_the_module(params, bind):
    def operations(compute):
        step = jax.value_and_grad(lambda params, batch: compute(bind(params), batch), has_aux=True)
        in_batches = jax.jit(jax.vmap(step, in_axes=(None, 0)))
        return str(jax.make_jaxpr(in_batches)(params, make_batch(3, 8)))

    assert operations(dispatched) == operations(direct)


assert_close = partial(np.testing.assert_allclose, rtol=1e-5)


def test_three_modules_train_in_one_step():
    batch = make_batch(8)

    @jax.jit
    @jax.grad
    def gradients(all_params, scale):
        modules = {name: bind(all_params[name]) for name, (_, bind) in CASES.items()}
        fwd_out = {name: module(batch["obs"]) for name, module in modules.items()}
        losses = Learner(module=modules).compute_losses(
            fwd_out=fwd_out, batch=dict.fromkeys(modules, batch), scale=scale
        )
        return sum(losses.values(), start=jnp.zeros(()))

    all_gradients = gradients({name: params for name, (params, _) in CASES.items()}, 0.5)

    for name, (params, bind) in CASES.items():
        alone = jax.grad(lambda params, bind=bind: direct(bind(params), batch)[0])(params)
        jax.tree.map(assert_close, all_gradients[name], jax.tree.map(lambda g: 0.5 * g, alone))


REDUCTIONS = ["mean", "min", "max", "sum", "item"]
SETTINGS = [
    *({"reduce": reduce} for reduce in REDUCTIONS),
    *({"reduce": reduce, "window": 2} for reduce in REDUCTIONS),
    {"reduce": "ema", "ema_coeff": 0.25},
]


def log(values):
    metrics = MetricsLogger()
    for value in values:
        for setting in SETTINGS:
            metrics.log_dict({"value": value, "bool": value > 2.0}, key=str(setting), **setting)
    return metrics.reduce()


@pytest.mark.parametrize(
    "transform", [jax.jit, lambda function: jax.vmap(function, in_axes=1)], ids=["jit", "vmap"]
)
def test_every_way_to_reduce_can_be_traced(transform):
    values = jnp.array([[1.0, 4.0], [4.0, 7.0], [2.0, 1.0], [3.0, 0.0]])
    jax.tree.map(assert_close, transform(log)(values), log(values))
