"""`check_module` on modules of Flax, Equinox, plain JAX and NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from unit.messages import hints_of, violations_of

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

OBS_SIZE = 4
NO_GRADIENT = (
    "The loss has no gradient for any parameter.\n"
    "  Compute fwd_out with this module and with gradients, freeze only some of its\n"
    "  parameters, and detach nothing on the way to the loss."
)


def squared_error(module, batch, fwd_out):
    return jnp.square(fwd_out["prediction"] - batch["new_obs"]).mean()


class PredictsNextObs(SelfSupervisedLossAPI[jax.Array]):
    loss = staticmethod(squared_error)

    def compute_self_supervised_loss(self, *, learner, module_id, batch, fwd_out, **kwargs):
        assert learner.module[module_id] is self
        loss = type(self).loss(self, batch, fwd_out)
        learner.metrics.log_value((module_id, "loss"), loss)
        return loss


class NNXModel(nnx.Module):
    def __init__(self):
        self.net = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=nnx.Rngs(0))


class LinenModel(linen.Module):
    def setup(self):
        self.net = linen.Dense(OBS_SIZE)


class EquinoxModel(eqx.Module):
    linear: eqx.nn.Linear = eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=jax.random.key(0))

    def net(self, obs):
        return jax.vmap(self.linear)(obs)


class PlainModel:
    """Hides its arrays from JAX, as modules of Haiku do."""

    def __init__(self):
        self.params = {"w": jax.random.normal(jax.random.key(0), (OBS_SIZE, OBS_SIZE))}

    def net(self, obs):
        return obs @ self.params["w"]


def make(framework, **methods):
    """Makes a module with a forward pass and a loss method."""

    def call(self, batch):
        return {"prediction": self.net(batch["obs"])}

    members = {"__call__": call} | methods
    module = type("Module", (framework, PredictsNextObs), members)()
    if issubclass(framework, linen.Module):
        batch = transitions()
        return module.bind(module.init(jax.random.key(0), batch))
    return module


def transitions():
    obs, new_obs = jax.random.normal(jax.random.key(0), (2, 8, OBS_SIZE))
    return {"obs": obs, "new_obs": new_obs}


def inputs_of(module, as_function=False):
    batch = transitions()
    fwd_out = (lambda module: module(batch)) if as_function else module(batch)
    return {"batch": batch, "fwd_out": fwd_out}


any_framework = pytest.mark.parametrize(
    "framework", [NNXModel, LinenModel, EquinoxModel, PlainModel]
)


def stops_the_gradient(module, batch, fwd_out):
    return jax.lax.stop_gradient(squared_error(module, batch, fwd_out))


def is_constant(module, batch, fwd_out):
    return jnp.ones(())


def takes_an_argmax(module, batch, fwd_out):
    return jnp.argmax(fwd_out["prediction"])


def returns_a_number(module, batch, fwd_out):
    return float(squared_error(module, batch, fwd_out))


def takes_the_root_of_zero(module, batch, fwd_out):
    distances = (fwd_out["prediction"] * 0.0).sum(axis=-1)
    return jnp.where(distances > 0, jnp.sqrt(distances), 0.0).mean() + 1.0


def loops_until_it_is_large(module, batch, fwd_out):
    loss = squared_error(module, batch, fwd_out)
    return jax.lax.while_loop(lambda loss: loss < 100, lambda loss: 2 * loss, loss)


@any_framework
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (stops_the_gradient, NO_GRADIENT),
        (
            takes_the_root_of_zero,
            "The gradient of the loss is NaN or infinite for fwd_out['prediction'].\n"
            "  Look for a square root or norm taken at zero; `jnp.where` does not prevent this.",
        ),
    ],
)
def test_a_violation_gets_one_message(framework, loss, message):
    module = make(framework, loss=staticmethod(loss))
    assert violations_of(module, **inputs_of(module)) == [message]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (is_constant, NO_GRADIENT),
        (
            takes_an_argmax,
            "The loss is of type int32, which has no gradient.\n"
            "  Look for an argmax or a comparison on the way to the loss.",
        ),
        (
            returns_a_number,
            "jax.grad raises ConcretizationTypeError: Abstract tracer value encountered where "
            "concrete value is expected: traced array with shape float32[]\n"
            "  Use jax.numpy throughout: no NumPy, no float(), no `if` on a value.",
        ),
        (
            loops_until_it_is_large,
            "jax.grad raises ValueError: Reverse-mode differentiation does not work for "
            "lax.while_loop or lax.fori_loop with dynamic start/stop values. Try using lax.scan, "
            "or using fori_loop with static start/stop.",
        ),
    ],
)
def test_a_violation_in_a_bound_module_gets_one_message(loss, message):
    module = make(LinenModel, loss=staticmethod(loss))
    assert violations_of(module, **inputs_of(module)) == [message]


def divides_by_zero(module, batch, fwd_out):
    return 1 / 0


@pytest.mark.parametrize("loss", [divides_by_zero, returns_a_number, loops_until_it_is_large])
def test_an_error_names_the_line_of_the_user(loss):
    module = make(LinenModel, loss=staticmethod(loss))
    with pytest.raises(AssertionError) as raised:
        check_module(module, **inputs_of(module))
    line = loss.__code__.co_firstlineno + 1 + (loss is loops_until_it_is_large)
    assert f"\n  at {__file__}:{line}" in str(raised.value)


def test_a_constant_of_a_module_without_arrays_is_a_violation():
    class HasNoArrays(PredictsNextObs):
        loss = staticmethod(is_constant)

    assert violations_of(HasNoArrays(), batch=transitions(), fwd_out={}) == [NO_GRADIENT]


def detaches(self, batch):
    return {"prediction": jax.lax.stop_gradient(self.net(batch["obs"]))}


def takes_roots(self, batch):
    return {"prediction": jnp.sqrt(jnp.square(0.0 * self.net(batch["obs"])).sum(axis=-1))[:, None]}


def loops(self, batch):
    obs = self.net(batch["obs"])
    return {"prediction": jax.lax.while_loop(lambda obs: obs.sum() < 9, lambda obs: obs + 1, obs)}


@pytest.mark.parametrize(
    ("framework", "forward", "beginning"),
    [
        (NNXModel, detaches, NO_GRADIENT),
        (LinenModel, detaches, NO_GRADIENT),
        (
            EquinoxModel,
            takes_roots,
            "The gradient of the loss is NaN or infinite for linear.weight",
        ),
        (PlainModel, takes_roots, "The gradient of the loss is NaN or infinite for params['w']."),
        (PlainModel, detaches, NO_GRADIENT),
        (PlainModel, loops, "jax.grad raises ValueError: Reverse-mode differentiation"),
    ],
)
def test_a_mistake_in_a_forward_pass_that_is_a_function_is_found(framework, forward, beginning):
    module = make(framework, __call__=forward)
    assert hints_of(module, **inputs_of(module)) == []
    (message,) = violations_of(module, **inputs_of(module, as_function=True))
    assert message.startswith(beginning)


@any_framework
def test_a_sound_module_gets_no_message_except_about_its_mask(framework):
    module = make(framework)
    for inputs in (inputs_of(module), inputs_of(module, as_function=True)):
        assert check_module(module, **inputs) > 0.0
        inputs["batch"]["loss_mask"] = jnp.arange(8) < 6
        (message,) = hints_of(module, **inputs)
        assert message.startswith("The loss has a gradient for masked rows of fwd_out['predict")


# Hints


def is_clipped(module, batch, fwd_out):
    return jnp.maximum(squared_error(module, batch, fwd_out), 100.0)


@pytest.mark.parametrize("as_function", [False, True])
def test_gradients_that_are_all_zero_are_a_hint(as_function):
    module = make(EquinoxModel, loss=staticmethod(is_clipped))
    (message,) = hints_of(module, **inputs_of(module, as_function))
    assert message.startswith("Every gradient of the loss is zero, although the loss is not.")


class NNXPair(nnx.Module):
    def __init__(self):
        self.online = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=nnx.Rngs(0))
        self.target = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=nnx.Rngs(0))


class LinenPair(linen.Module):
    def setup(self):
        same = linen.initializers.constant(jnp.arange(OBS_SIZE**2).reshape(OBS_SIZE, OBS_SIZE))
        self.online = linen.Dense(OBS_SIZE, kernel_init=same)
        self.target = linen.Dense(OBS_SIZE, kernel_init=same)


class EquinoxPair(eqx.Module):
    online_net: eqx.nn.Linear = eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=jax.random.key(0))
    target_net: eqx.nn.Linear = eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=jax.random.key(0))

    def online(self, obs):
        return jax.vmap(self.online_net)(obs)

    def target(self, obs):
        return jax.vmap(self.target_net)(obs)


class PlainPair:
    def __init__(self):
        self.params = {name: {"w": PlainModel().params["w"]} for name in ("online", "target")}

    def online(self, obs):
        return obs @ self.params["online"]["w"]

    def target(self, obs):
        return obs @ self.params["target"]["w"]


@pytest.mark.parametrize("framework", [NNXPair, LinenPair, EquinoxPair, PlainPair])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_target_network_that_is_trained_is_a_hint(framework, is_frozen):
    def forward(self, batch):
        target = self.target(batch["new_obs"])
        target = jax.lax.stop_gradient(target) if is_frozen else target
        return {"prediction": self.online(batch["obs"]) - target}

    module = make(framework, __call__=forward)
    hints = hints_of(module, **inputs_of(module, as_function=True))
    assert len(hints) == (0 if is_frozen else 1)
    assert all("starts as a copy of" in hint and "online" in hint for hint in hints)


# Correct modules


class DropsOut(nnx.Module, SelfSupervisedLossAPI[jax.Array]):
    """Changes its state when it runs, the random count and the statistics, and contains itself."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.BatchNorm(OBS_SIZE, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.parent = nnx.data(self)

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(self.dropout(self.norm(fwd_out["prediction"]))).mean()


class DropsOutInLinen(linen.Module, SelfSupervisedLossAPI[jax.Array]):
    """Is bound to random keys and to statistics that change."""

    def setup(self):
        self.norm = linen.BatchNorm(use_running_average=False)
        self.dropout = linen.Dropout(0.5, deterministic=False)

    def __call__(self, obs):
        return self.dropout(self.norm(obs))

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(self(fwd_out["prediction"])).mean()


def bound_to_random_keys():
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = DropsOutInLinen().init(keys, jnp.ones((8, OBS_SIZE)))
    return DropsOutInLinen().bind(variables, rngs=keys, mutable=["batch_stats"])


class Holds(SelfSupervisedLossAPI[jax.Array]):
    """Hides another module from JAX."""

    def __init__(self, inner):
        self.inner = inner

    def compute_self_supervised_loss(self, **arguments):
        return self.inner.compute_self_supervised_loss(**arguments)


class RunsInItsLoss(EquinoxModel, SelfSupervisedLossAPI[jax.Array]):
    def compute_self_supervised_loss(self, *, batch, **kwargs):
        return jnp.square(self.net(batch["obs"])).mean()


class RunsACompiledFunction(PlainModel, SelfSupervisedLossAPI[jax.Array]):
    """Its arrays are constants of a function that is compiled separately."""

    def __init__(self):
        super().__init__()
        self.compiled = jax.jit(self.net)

    def compute_self_supervised_loss(self, *, batch, **kwargs):
        return jnp.square(self.compiled(batch["obs"])).mean()


class IsJitted(EquinoxModel, SelfSupervisedLossAPI[jax.Array]):
    @eqx.filter_jit
    def compute_self_supervised_loss(self, *, batch, fwd_out, **kwargs):
        return squared_error(self, batch, fwd_out)


class IsPerfect(EquinoxModel, SelfSupervisedLossAPI[jax.Array]):
    """Its gradient is zero because its loss is."""

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(fwd_out["prediction"] - fwd_out["prediction"]).sum()


class ReturnsAnOutput(EquinoxModel, SelfSupervisedLossAPI[jax.Array]):
    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return fwd_out["loss"]


@pytest.mark.parametrize(
    "make_module",
    [
        DropsOut,
        bound_to_random_keys,
        lambda: Holds(DropsOut()),
        RunsInItsLoss,
        lambda: Holds(RunsInItsLoss()),
        RunsACompiledFunction,
        IsJitted,
        lambda: Holds(IsJitted()),
        IsPerfect,
        ReturnsAnOutput,
    ],
)
def test_a_correct_module_gets_no_message(make_module):
    batch = transitions()
    fwd_out = {"prediction": 2.0 * batch["obs"], "loss": jnp.ones(())}
    check_module(make_module(), batch=batch, fwd_out=fwd_out)


def test_parameters_and_keys_may_be_passed_as_keyword_arguments():
    class IsFunctional(linen.Module, SelfSupervisedLossAPI[jax.Array]):
        @linen.compact
        def __call__(self, obs):
            return linen.Dropout(0.5, deterministic=False)(linen.Dense(OBS_SIZE)(obs))

        def compute_self_supervised_loss(self, *, batch, params, key, **kwargs):
            prediction = self.apply(params, batch["obs"], rngs={"dropout": key})
            return jnp.square(prediction - batch["new_obs"]).mean()

    batch, key, module = transitions(), jax.random.key(0), IsFunctional()
    params = module.init({"params": key, "dropout": key}, batch["obs"])
    check_module(module, batch=batch, fwd_out={}, params=params, key=key)


def test_the_forward_pass_may_read_parameters_that_are_passed_as_a_keyword_argument():
    module, batch = make(LinenModel).unbind()[0], transitions()
    params = module.init(jax.random.key(0), batch)
    check_module(
        module, batch=batch, fwd_out=lambda module: module.apply(params, batch), params=params
    )


class NumPyModule(SelfSupervisedLossAPI[np.float64]):
    def compute_self_supervised_loss(self, *, learner, module_id, batch, fwd_out, **kwargs):
        error = ((fwd_out["p"] - batch["obs"]) ** 2).mean()
        learner.metrics.log_value((module_id, "error"), error)
        return error


class ChangesNumPyArrays(NumPyModule):
    def compute_self_supervised_loss(self, *, batch, **arguments):
        batch["obs"] *= 2.0
        return super().compute_self_supervised_loss(batch=batch, **arguments)


def test_numpy_arrays_pass_and_a_change_in_place_is_found():
    inputs = {"batch": {"obs": np.ones(3)}, "fwd_out": {"p": np.full(3, 3.0)}}
    assert check_module(NumPyModule(), **inputs) == 4.0
    (message,) = violations_of(ChangesNumPyArrays(), **inputs)
    assert message.startswith("The loss method changed batch['obs'].")


@pytest.mark.parametrize("array", [np.zeros(1), torch.ones(1).requires_grad_(), jnp.zeros(1)])
def test_an_array_with_one_element_is_not_a_scalar(array):
    class Unreduced(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, learner, module_id, fwd_out, **kwargs):
            learner.metrics.log_value((module_id, "loss"), fwd_out["p"])
            return fwd_out["p"]

    module = Unreduced()
    module.parameter = array
    assert violations_of(module, batch={}, fwd_out={"p": array}) == [
        "The loss has shape (1,), expected ().\n  Return one scalar, and log any other values.",
        "The value logged as ('module', 'loss') has shape (1,), expected ().\n  Log a scalar.",
    ]


@pytest.mark.parametrize(
    ("rewards", "is_finite"),
    [
        (np.array([0.0, np.inf]), False),
        (np.array([0.0, np.nan]), False),
        (jnp.array([0.0, -jnp.inf]), False),
        (torch.tensor([0.0, torch.nan]), False),
        (torch.tensor([True, False]), True),
        (np.array([], dtype=float), True),
    ],
)
def test_intrinsic_rewards_are_finite_in_any_framework(rewards, is_finite):
    class Module(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, **kwargs):
            return 1.0

    inputs = {"batch": {}, "fwd_out": {"intrinsic_rewards": rewards}}
    if is_finite:
        check_module(Module(), **inputs)
    else:
        messages = violations_of(Module(), **inputs)
        assert any(m.startswith("fwd_out['intrinsic_rewards'] is NaN or inf") for m in messages)
