"""`check_module` on modules of Flax, Equinox, plain JAX and NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from unit.checking import check, hints_of, module_with, returning, violations_of

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

SIZE = 4


def error(self, batch, out):
    return jnp.square(out["prediction"] - batch["new_obs"]).mean()


def predict(self, batch):
    return {"prediction": self.net(batch["obs"])}


class Predicts(SelfSupervisedLossAPI[jax.Array]):
    def compute_self_supervised_loss(self, *, learner, module_id, batch, fwd_out, **kwargs):
        assert learner.module[module_id] is self
        loss = self.loss(batch, fwd_out)
        learner.metrics.log_value((module_id, "loss"), loss)
        return loss


# A network and a copy of it, which only some of the modules use.


class InNNX(nnx.Module):
    def __init__(self):
        self.net, self.target = (nnx.Linear(SIZE, SIZE, rngs=nnx.Rngs(0)) for _ in range(2))


class InLinen(linen.Module):
    def setup(self):
        same = linen.initializers.constant(jnp.arange(SIZE**2).reshape(SIZE, SIZE) / SIZE**2)
        self.net, self.target = (linen.Dense(SIZE, kernel_init=same) for _ in range(2))


class Linear(eqx.Module):
    layer: eqx.nn.Linear = eqx.nn.Linear(SIZE, SIZE, key=jax.random.key(0))

    def __call__(self, obs):
        return jax.vmap(self.layer)(obs)


class InEquinox(eqx.Module):
    net: Linear = Linear()
    target: Linear = Linear()


class InPlainJAX:
    """Hides its arrays from JAX, as modules of Haiku do."""

    def __init__(self):
        weights = jax.random.normal(jax.random.key(0), (SIZE, SIZE))
        self.params = {name: {"w": weights.copy()} for name in ("net", "target")}
        self.net = lambda obs: obs @ self.params["net"]["w"]
        self.target = lambda obs: obs @ self.params["target"]["w"]


FRAMEWORKS = InNNX, InLinen, InEquinox, InPlainJAX
any_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


def make(framework, loss=error, forward=predict):
    members = {"loss": loss, "__call__": forward}
    module = type("Module", (framework, Predicts), members)()
    if framework is InLinen:
        return module.bind(module.init(jax.random.key(0), transitions()))
    return module


def transitions():
    obs, new_obs = jax.random.normal(jax.random.key(0), (2, 8, SIZE))
    return {"obs": obs, "new_obs": new_obs}


def inputs_of(module, as_function=False):
    batch = transitions()
    fwd_out = (lambda module: module(batch)) if as_function else module(batch)
    return {"batch": batch, "fwd_out": fwd_out}


# Violations

NO_GRADIENT = "The loss has no gradient for any parameter."
NOT_FINITE = "The gradient of the loss is NaN or infinite for"


def stop(self, batch):
    return {"prediction": jax.lax.stop_gradient(self.net(batch["obs"]))}


def take_roots(self, batch):
    return {"prediction": jnp.sqrt(jnp.square(0.0 * self.net(batch["obs"])).sum(axis=-1))[:, None]}


VIOLATIONS = [
    (InLinen, {"loss": lambda *_: jnp.ones(())}, NO_GRADIENT),
    (
        InLinen,
        {"loss": lambda self, batch, out: jnp.argmax(out["prediction"])},
        "The loss is of type int32, which has no gradient.",
    ),
    (InNNX, {"forward": stop}, NO_GRADIENT),
    (InPlainJAX, {"forward": stop}, NO_GRADIENT),
    (InPlainJAX, {"forward": take_roots}, f"{NOT_FINITE} params['net']['w']."),
    (
        InEquinox,
        {"forward": take_roots},
        f"{NOT_FINITE} net.layer.weight, net.layer.bias.\n"
        "  Look for a square root or norm taken at zero; `jnp.where` does not prevent this.",
    ),
]


@pytest.mark.parametrize(("framework", "methods", "message"), VIOLATIONS)
def test_a_violation_gets_one_message(framework, methods, message):
    module = make(framework, **methods)
    (found,) = violations_of(module, **inputs_of(module, as_function=True))
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("loss", "message"),
    [(jnp.ones(()), NO_GRADIENT), (jnp.ones(1), "The loss has shape (1,), expected ().")],
)
def test_a_constant_of_a_module_without_arrays_is_a_violation(loss, message):
    (found,) = violations_of(returning(loss))
    assert found.startswith(message)


def number(self, batch, out):
    return float(error(self, batch, out))


def loop(self, batch, out):
    return jax.lax.while_loop(lambda x: x < 9, lambda x: 2 * x, error(self, batch, out))


NOT_TRACED = "\n  Use jax.numpy throughout: no NumPy, no float(), no `if` on a value."


@pytest.mark.parametrize(
    ("loss", "fault", "advice"),
    [
        (number, "ConcretizationTypeError: Abstract tracer value", NOT_TRACED),
        (loop, "ValueError: Reverse-mode differentiation does not work", ""),
    ],
)
def test_an_error_of_jax_is_a_violation_with_the_line_of_the_user(loss, fault, advice):
    module = make(InLinen, loss)
    with pytest.raises(AssertionError, match=f"\n- jax.grad raises {fault}") as raised:
        check_module(module, **inputs_of(module))
    line = loss.__code__.co_firstlineno + 1
    assert str(raised.value).endswith(f"\n  at {__file__}:{line}{advice}")


# Hints


@pytest.mark.parametrize("as_function", [False, True])
def test_gradients_that_are_all_zero_are_a_hint(as_function):
    module = make(InEquinox, lambda *arguments: jnp.maximum(error(*arguments), 100.0))
    (message,) = hints_of(module, **inputs_of(module, as_function))
    assert message.startswith("Every gradient of the loss is zero, although the loss is not.")


@any_framework
@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_target_network_that_is_trained_is_a_hint(framework, is_frozen):
    def forward(self, batch):
        target = self.target(batch["new_obs"])
        target = jax.lax.stop_gradient(target) if is_frozen else target
        return {"prediction": self.net(batch["obs"]) - target}

    module = make(framework, forward=forward)
    hints = hints_of(module, **inputs_of(module, as_function=True))
    assert len(hints) == (0 if is_frozen else 1)
    assert all("starts as a copy of" in hint and "target" in hint for hint in hints)


@any_framework
def test_a_correct_module_gets_no_message_except_about_its_mask(framework):
    module = make(framework)
    for inputs in (inputs_of(module), inputs_of(module, as_function=True)):
        assert check_module(module, **inputs) > 0.0
        inputs["batch"]["loss_mask"] = jnp.arange(8) < 6
        (message,) = hints_of(module, **inputs)
        assert message.startswith("The loss has a gradient for masked rows of fwd_out['predict")


# Correct modules


class DropsOut(nnx.Module, SelfSupervisedLossAPI[jax.Array]):
    """Changes its state when it runs, the random count and the statistics, and contains itself."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.BatchNorm(SIZE, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.parent = nnx.data(self)

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(self.dropout(self.norm(fwd_out["prediction"]))).mean()


class DropsOutInLinen(linen.Module, SelfSupervisedLossAPI[jax.Array]):
    @linen.compact
    def __call__(self, obs):
        normed = linen.BatchNorm(use_running_average=False)(obs)
        return linen.Dropout(0.5, deterministic=False)(normed)

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(self(fwd_out["prediction"])).mean()


def bound_to_random_keys():
    """Makes a module that also changes its state."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = DropsOutInLinen().init(keys, jnp.ones((8, SIZE)))
    return DropsOutInLinen().bind(variables, rngs=keys, mutable=["batch_stats"])


class Holds(SelfSupervisedLossAPI[jax.Array]):
    """Hides another module from JAX."""

    def __init__(self, inner):
        self.inner = inner

    def compute_self_supervised_loss(self, **arguments):
        return self.inner.compute_self_supervised_loss(**arguments)


class RunsACompiledFunction(InPlainJAX, Predicts):
    """Its arrays are constants of a compiled function inside another one."""

    def __init__(self):
        super().__init__()
        self.net = jax.jit(jax.jit(self.net))

    def loss(self, batch, out):
        return self.net(batch["obs"]).mean()


class IsJitted(InEquinox, SelfSupervisedLossAPI[jax.Array]):
    @eqx.filter_jit
    def compute_self_supervised_loss(self, *, batch, fwd_out, **kwargs):
        return error(self, batch, fwd_out)


CORRECT = {
    "dropout": DropsOut,
    "dropout in a bound module": bound_to_random_keys,
    "dropout held": lambda: Holds(DropsOut()),
    "network run in the loss": lambda: make(
        InEquinox, lambda self, batch, out: error(self, batch, self(batch))
    ),
    "function compiled separately": RunsACompiledFunction,
    "loss compiled": IsJitted,
    "loss compiled, held": lambda: Holds(IsJitted()),
    "gradient zero because the loss is": lambda: make(
        InEquinox, lambda self, batch, out: jnp.square(out["prediction"] - out["prediction"]).sum()
    ),
    "output returned": lambda: make(InEquinox, lambda self, batch, out: out["loss"]),
    "output bounded": lambda: make(
        InEquinox, lambda self, batch, out: jnp.minimum(out["loss"], 1.5)
    ),
}


@pytest.mark.parametrize("make_module", CORRECT.values(), ids=CORRECT)
def test_a_correct_module_gets_no_message(make_module):
    batch = transitions()
    fwd_out = {"prediction": 2.0 * batch["obs"], "loss": jnp.ones(())}
    check_module(make_module(), batch=batch, fwd_out=fwd_out)


def test_parameters_and_keys_may_be_passed_as_keyword_arguments():
    def loss_method(self, *, batch, weights, key, **kwargs):
        return jnp.square(batch["obs"] @ weights - jax.random.normal(key, (8, SIZE))).mean()

    def taking_roots(self, *, weights, **arguments):
        return loss_method(self, weights=jnp.sqrt(0.0 * weights), **arguments)

    passed = {"weights": jnp.ones((SIZE, SIZE)), "key": jax.random.key(0)}
    check(module_with(loss_method), batch=transitions(), **passed)
    (message,) = violations_of(module_with(taking_roots), batch=transitions(), **passed)
    assert message.startswith(f"{NOT_FINITE} kwargs['weights'].")


def test_the_forward_pass_may_apply_parameters_from_elsewhere():
    (module, params), batch = make(InLinen).unbind(), transitions()
    inputs = {"batch": batch, "fwd_out": lambda module: module.apply(params, batch)}
    for extras in ({}, {"params": params}):
        check_module(module, **inputs, **extras)


# Arrays of any framework


def test_numpy_arrays_pass_and_a_change_in_place_is_found():
    def loss_method(self, *, batch, fwd_out, **kwargs):
        batch["obs"] += fwd_out["change"]
        return (batch["obs"] ** 2).mean()

    batch, module = {"obs": np.ones(3)}, module_with(loss_method)
    assert check(module, batch=batch, fwd_out={"change": 0.0}) == 1.0
    (message,) = violations_of(module, batch=batch, fwd_out={"change": 1.0})
    assert message.startswith("The loss method changed batch['obs'].")


@pytest.mark.parametrize(
    ("rewards", "is_finite"),
    [
        (np.array([0.0, np.inf]), False),
        (jnp.array([0.0, -jnp.inf]), False),
        (torch.tensor([0.0, torch.nan]), False),
        (torch.tensor([True, False]), True),
        (np.array([], dtype=float), True),
    ],
)
def test_intrinsic_rewards_are_finite_in_any_framework(rewards, is_finite):
    messages = violations_of(returning(1.0), fwd_out={"intrinsic_rewards": rewards})
    fault = "fwd_out['intrinsic_rewards'] is NaN or infinite.\n"
    advice = "  Look for a division by zero or a logarithm of zero."
    assert (fault + advice in messages) == (not is_finite)
