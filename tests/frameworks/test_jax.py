"""JAX: modules of Flax NNX, Flax Linen and Equinox under `jit`, `value_and_grad` and `vmap`."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from frameworks.shared import OBS_SIZE, reduced_in_every_way

from self_supervised_loss import Learner, SelfSupervisedLossAPI


class PredictsNextObs(SelfSupervisedLossAPI[jax.Array]):
    """The loss of the three modules below, which predict the next observation."""

    def compute_self_supervised_loss(self, *, learner, module_id, batch, fwd_out, **kwargs):
        loss = jnp.square(fwd_out - batch["new_obs"]).mean()
        learner.metrics.log_value((module_id, "loss"), loss)
        learner.metrics.log_dict(
            {"root": jnp.sqrt(loss), "large": loss > 1.0}, key=module_id, reduce="max"
        )
        return loss


class NNXModel(nnx.Module, PredictsNextObs):
    def __init__(self):
        self.net = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=nnx.Rngs(0))

    def __call__(self, obs):
        return self.net(obs)


class LinenModel(linen.Module, PredictsNextObs):
    @linen.compact
    def __call__(self, obs):
        return linen.Dense(OBS_SIZE)(obs)


class EquinoxModel(eqx.Module, PredictsNextObs):
    net: eqx.nn.Linear

    def __call__(self, obs):
        return obs @ self.net.weight.T + self.net.bias


GRAPH, NNX_PARAMS = nnx.split(NNXModel())
LINEN_PARAMS = LinenModel().init(jax.random.key(0), jnp.zeros(OBS_SIZE))
EQUINOX_MODEL = EquinoxModel(eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=jax.random.key(0)))
EQUINOX_PARAMS, STATIC = eqx.partition(EQUINOX_MODEL, eqx.is_array)
# The parameters of each module, and the function that binds the module to parameters
CASES = {
    "nnx": (NNX_PARAMS, partial(nnx.merge, GRAPH)),
    "linen": (LINEN_PARAMS, LinenModel().bind),
    "equinox": (EQUINOX_PARAMS, partial(eqx.combine, STATIC)),
}


@pytest.fixture(autouse=True)
def no_tracer_leaks():
    with jax.checking_leaks():
        yield


def make_batch(*shape):
    obs, new_obs = jax.random.normal(jax.random.key(1), (2, *shape, OBS_SIZE))
    return {"obs": obs, "new_obs": 2 * new_obs}


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


@pytest.mark.parametrize(
    "transform", [jax.jit, lambda function: jax.vmap(function, in_axes=1)], ids=["jit", "vmap"]
)
def test_every_way_to_reduce_can_be_traced(transform):
    values = jnp.array([[1.0, 4.0], [4.0, 7.0], [2.0, 1.0], [3.0, 0.0]])
    expected = reduced_in_every_way(values)
    assert_close = partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(assert_close, transform(reduced_in_every_way)(values), expected)
