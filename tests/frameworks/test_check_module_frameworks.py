"""`check_module` on modules of PyTorch, JAX and NumPy: what would train wrongly is told, and what
is right passes."""

import random
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from flax import linen, nnx
from lightning_fabric import Fabric
from modules.actor_critic import ActorCritic
from modules.icm import ICM
from modules.latent_world_model import LatentWorldModel
from modules.rnd import RND
from modules.self_prediction import SelfPrediction
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

OBS_SIZE, NUM_ACTIONS = 4, 3


def transitions() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "obs": torch.randn(8, OBS_SIZE),
        "new_obs": torch.randn(8, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (8,)),
        "advantages": torch.randn(8),
        "value_targets": torch.randn(8),
    }


def violations_of(module: Any, batch: dict[str, Any], fwd_out: dict[str, Any]) -> list[str]:
    with pytest.raises(AssertionError) as raised:
        check_module(module, batch=batch, fwd_out=fwd_out)
    return [line.removeprefix("- ") for line in str(raised.value).splitlines()[1:]]


class Predictor(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Predicts the next observation. What is right here is made wrong below, in one way each."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(OBS_SIZE, OBS_SIZE)
        self.target = nn.Linear(OBS_SIZE, OBS_SIZE).requires_grad_(False)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"prediction": self.net(batch["obs"])}

    def error(self, batch: dict[str, torch.Tensor], fwd_out: dict[str, Any]) -> torch.Tensor:
        return (fwd_out["prediction"] - self.target(batch["new_obs"])).square().mean()

    def compute_self_supervised_loss(
        self, *, batch: dict[str, Any], fwd_out: dict[str, Any], **kwargs: Any
    ) -> torch.Tensor:
        return self.error(batch, fwd_out)


# A violation


class DetachesThePrediction(Predictor):
    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"prediction": self.net(batch["obs"]).detach()}


class DetachesTheLoss(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
        return super().compute_self_supervised_loss(**arguments).detach()


class StartsFromAnotherInstance(Predictor):
    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return Predictor()(batch)


class StartsFromASharedEncoder(Predictor):
    """Its loss has a graph, and trains the encoder alone."""

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        with torch.no_grad():
            prediction = self.net(batch["obs"])
        return {"prediction": prediction + nn.Linear(OBS_SIZE, OBS_SIZE)(batch["obs"])}


class ReturnsANumber(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> Any:
        return super().compute_self_supervised_loss(**arguments).item()


class ReturnsAnArray(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> Any:
        return super().compute_self_supervised_loss(**arguments).detach().numpy()


class CallsBackward(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
        loss = super().compute_self_supervised_loss(**arguments)
        loss.backward()
        return loss


class StepsAnOptimizer(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
        optimizer = torch.optim.Adam(self.net.parameters())
        loss = super().compute_self_supervised_loss(**arguments)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss


class UpdatesItsTarget(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
        self.target.weight.data.lerp_(self.net.weight.data, 0.01)
        return super().compute_self_supervised_loss(**arguments)


class ReplacesTheData(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
        self.target.weight.data = self.net.weight.data.clone()
        return super().compute_self_supervised_loss(**arguments)


class ReplacesAParameter(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
        loss = super().compute_self_supervised_loss(**arguments)
        self.net.bias = nn.Parameter(self.net.bias.detach().clone())
        return loss


class FreezesAParameter(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> torch.Tensor:
        loss = super().compute_self_supervised_loss(**arguments)
        self.net.bias.requires_grad_(False)
        return loss


class NormalisesTheBatch(Predictor):
    def compute_self_supervised_loss(
        self, *, batch: dict[str, Any], **arguments: Any
    ) -> torch.Tensor:
        batch["obs"] -= batch["obs"].mean()
        return super().compute_self_supervised_loss(batch=batch, **arguments)


class DetachesInTheDict(Predictor):
    def compute_self_supervised_loss(
        self, *, fwd_out: dict[str, Any], **arguments: Any
    ) -> torch.Tensor:
        loss = super().compute_self_supervised_loss(fwd_out=fwd_out, **arguments)
        fwd_out["prediction"] = fwd_out["prediction"].detach()
        return loss


class ChangesAnLSTMState(Predictor):
    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {**super().forward(batch), "state": (torch.ones(8, 2), torch.ones(8, 2))}

    def compute_self_supervised_loss(
        self, *, fwd_out: dict[str, Any], **arguments: Any
    ) -> torch.Tensor:
        fwd_out["state"][1].zero_()
        return super().compute_self_supervised_loss(fwd_out=fwd_out, **arguments)


class ChangesWhatHasAHook(Predictor):
    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        noise = torch.ones(8, requires_grad=True) * 2.0
        noise.register_hook(lambda gradient: gradient)
        return {**super().forward(batch), "noise": noise}

    def compute_self_supervised_loss(
        self, *, fwd_out: dict[str, Any], **arguments: Any
    ) -> torch.Tensor:
        fwd_out["noise"].mul_(0.0)
        return super().compute_self_supervised_loss(fwd_out=fwd_out, **arguments)


class ReturnsNothing(Predictor):
    def compute_self_supervised_loss(self, **arguments: Any) -> Any:
        super().compute_self_supervised_loss(**arguments)


NOTHING_IS_LEARNT = (
    "the loss has no gradient for any parameter, so that nothing would be learnt. Make fwd_out with this module and "
    "with gradients, and detach nothing on the way to the loss."
)
LEAVE_TRAINING = "Leave backward(), optimizer steps and updates of targets to the training loop."
LEAVE_INPUT = "is not as before. Leave the input as it is."
RETURN_THE_TENSOR = "without a gradient. Return the tensor, without item() or float()."

each_mistake = pytest.mark.parametrize(
    ("module_class", "sentence"),
    [
        (DetachesThePrediction, NOTHING_IS_LEARNT),
        (DetachesTheLoss, NOTHING_IS_LEARNT),
        (StartsFromAnotherInstance, NOTHING_IS_LEARNT),
        (StartsFromASharedEncoder, NOTHING_IS_LEARNT),
        (ReturnsANumber, f"the loss is a float {RETURN_THE_TENSOR}"),
        (ReturnsAnArray, f"the loss is a ndarray {RETURN_THE_TENSOR}"),
        (
            CallsBackward,
            f"the loss method changed net.weight.grad, net.bias.grad. {LEAVE_TRAINING}",
        ),
        (StepsAnOptimizer, f"the loss method changed net.weight, net.bias. {LEAVE_TRAINING}"),
        (UpdatesItsTarget, f"the loss method changed target.weight. {LEAVE_TRAINING}"),
        (ReplacesTheData, f"the loss method changed target.weight. {LEAVE_TRAINING}"),
        (ReplacesAParameter, f"the loss method changed net.bias. {LEAVE_TRAINING}"),
        (FreezesAParameter, f"the loss method changed net.bias. {LEAVE_TRAINING}"),
        (NormalisesTheBatch, f"batch['obs'] {LEAVE_INPUT}"),
        (DetachesInTheDict, f"fwd_out['prediction'] {LEAVE_INPUT}"),
        (ChangesAnLSTMState, f"fwd_out['state'] {LEAVE_INPUT}"),
        (ChangesWhatHasAHook, f"fwd_out['noise'] {LEAVE_INPUT}"),
        (ReturnsNothing, "the loss is None. Return one scalar, and log what else there is."),
    ],
)


@each_mistake
def test_a_mistake_gets_one_sentence(module_class: type[Predictor], sentence: str) -> None:
    module, batch = module_class(), transitions()
    assert violations_of(module, batch, module(batch)) == [sentence]


@each_mistake
@pytest.mark.parametrize("with_gradients", [False, True])
def test_the_module_is_as_before(
    module_class: type[Predictor], sentence: str, with_gradients: bool
) -> None:
    module, batch = module_class(), transitions()
    if with_gradients:
        sum(parameter.sum() for parameter in module.net.parameters()).backward()
    parameters = dict(module.named_parameters())
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    values = [
        tensor.detach().clone()
        for tensor in (*parameters.values(), *gradients.values())
        if tensor is not None
    ]
    trainable = [parameter.requires_grad for parameter in parameters.values()]

    violations_of(module, batch, module(batch))

    assert all(parameter is parameters[name] for name, parameter in module.named_parameters())
    assert all(parameter.grad is gradients[name] for name, parameter in module.named_parameters())
    tensors = [
        tensor for tensor in (*parameters.values(), *gradients.values()) if tensor is not None
    ]
    assert all(torch.equal(tensor, value) for tensor, value in zip(tensors, values, strict=True))
    assert [parameter.requires_grad for parameter in parameters.values()] == trainable


def test_an_output_made_without_gradients() -> None:
    module, batch = Predictor(), transitions()
    with torch.no_grad():
        fwd_out = module(batch)
    assert violations_of(module, batch, fwd_out) == [NOTHING_IS_LEARNT]


@pytest.mark.parametrize("base", [DetachesThePrediction, StartsFromAnotherInstance])
def test_a_loss_that_is_not_reduced_and_cut_off_is_told_both(base: type[Predictor]) -> None:
    class Unreduced(base):  # type: ignore[misc, valid-type]
        def error(self, batch: dict[str, torch.Tensor], fwd_out: dict[str, Any]) -> torch.Tensor:
            return fwd_out["prediction"]

    module, batch = Unreduced(), transitions()
    assert violations_of(module, batch, module(batch)) == [
        "the loss has shape (8, 4), not (). Return one scalar, and log what else there is.",
        NOTHING_IS_LEARNT,
    ]


def test_an_array_with_one_element_is_no_scalar() -> None:
    class Unreduced(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(
            self, *, learner: Any, module_id: str, fwd_out: dict[str, Any], **kwargs: Any
        ) -> Any:
            learner.metrics.log_value((module_id, "loss"), fwd_out["p"])
            return fwd_out["p"]

    for one_element in (np.zeros(1), torch.zeros(1), jax.numpy.zeros(1)):
        returned, logged = violations_of(Unreduced(), {}, {"p": one_element})
        assert returned.startswith("the loss has shape (1,), not ().")
        assert (
            logged == "the value logged as ('module', 'loss') has shape (1,), not (). Log a scalar."
        )


@pytest.mark.parametrize("array", [np.ones(3), torch.ones(3)], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_a_change_in_place(name: str, array: Any) -> None:
    class Normalises(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, **inputs: Any) -> float:
            inputs[name]["rewards"][0] *= 2
            return 1.0

    inputs: dict[str, dict[str, Any]] = {"batch": {}, "fwd_out": {}, name: {"rewards": array}}
    assert violations_of(Normalises(), **inputs) == [f"{name}['rewards'] {LEAVE_INPUT}"]


def test_an_error_names_the_line_of_the_user_behind_a_decorator_and_before_torch() -> None:
    class Fails(Predictor):
        @torch.enable_grad()
        def compute_self_supervised_loss(
            self, *, batch: dict[str, Any], **arguments: Any
        ) -> torch.Tensor:
            return nn.functional.mse_loss(self.net(batch["obs"][:, :1]), batch["obs"])

    line = Fails.compute_self_supervised_loss.__wrapped__.__code__.co_firstlineno + 2
    (sentence,) = violations_of(Fails(), transitions(), {})
    assert sentence.startswith(
        f"compute_self_supervised_loss ({__file__}:{line}) raised RuntimeError: mat1 and mat2"
    )


# A hint


def test_parameters_without_a_gradient_are_named_in_a_warning_but_not_frozen_ones() -> None:
    class UsesHalf(Predictor):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(OBS_SIZE, 1)

    module, batch = UsesHalf(), transitions()
    with pytest.warns(UserWarning) as warned:
        check_module(module, batch=batch, fwd_out=module(batch))
    (warning,) = warned
    hint = "the loss has no gradient for unused.weight, unused.bias. If that is meant, freeze them."
    assert str(warning.message) == hint


# No alarm


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
    torch._dynamo.reset()


def self_prediction() -> SelfPrediction:
    return SelfPrediction(nn.Linear(OBS_SIZE, 8), latent_size=8, num_actions=NUM_ACTIONS)


@pytest.mark.parametrize(
    "make",
    [
        partial(ICM, OBS_SIZE, NUM_ACTIONS),
        partial(RND, OBS_SIZE),
        partial(ActorCritic, OBS_SIZE, NUM_ACTIONS),
        self_prediction,
    ],
    ids=["ICM", "RND", "ActorCritic", "SelfPrediction"],
)
def test_a_torch_module_passes_and_nothing_of_it_changes(make: Callable[[], nn.Module]) -> None:
    module, batch = make(), transitions()
    fwd_out, state = (
        module(batch),
        {name: tensor.clone() for name, tensor in module.state_dict().items()},
    )
    loss = check_module(module, batch=batch, fwd_out=fwd_out)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    loss.backward()
    assert all(
        (parameter.grad is not None) == parameter.requires_grad for parameter in module.parameters()
    )


def every_part_sharded(module: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (1,))
    for part in module.children():
        fully_shard(part, mesh=mesh)
    return fully_shard(module, mesh=mesh)


@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        partial(torch.compile, backend="eager"),
        partial(torch.compile, backend="aot_eager"),
        torch.compile,
        DataParallel,
        AveragedModel,
        DistributedDataParallel,
        lambda module: torch.compile(DistributedDataParallel(module), backend="eager"),
        lambda module: fully_shard(module, mesh=init_device_mesh("cpu", (1,))),
        every_part_sharded,
        partial(FullyShardedDataParallel, device_id=torch.device("cpu")),
        partial(FullyShardedDataParallel, device_id=torch.device("cpu"), use_orig_params=True),
        Fabric(accelerator="cpu", devices=1).setup,
    ],
    ids=[
        "torch.compile, eager",
        "torch.compile, aot_eager",
        "torch.compile, inductor",
        "DataParallel",
        "AveragedModel",
        "DistributedDataParallel",
        "torch.compile around DistributedDataParallel",
        "fully_shard",
        "fully_shard, every part",
        "FullyShardedDataParallel",
        "FullyShardedDataParallel, original parameters",
        "Fabric",
    ],
)
def test_a_wrapped_module_passes_and_can_be_trained(
    wrap: Callable[[nn.Module], Any], process_group: None
) -> None:
    module, batch = wrap(ICM(OBS_SIZE, NUM_ACTIONS)), transitions()
    check_module(module, batch=batch, fwd_out=module(batch)).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_wrapped_module_that_learns_nothing_is_found_too() -> None:
    module, batch = torch.compile(DetachesThePrediction(), backend="eager"), transitions()
    assert violations_of(module, batch, module(batch)) == [NOTHING_IS_LEARNT]
    torch._dynamo.reset()


def test_a_frozen_module_needs_no_gradient() -> None:
    module, batch = ICM(OBS_SIZE, NUM_ACTIONS).requires_grad_(requires_grad=False), transitions()
    assert not check_module(module, batch=batch, fwd_out=module(batch)).requires_grad


class Convolutional(Predictor):
    """Compiled, it gets a graph that can be asked for gradients only once, so that it is not asked."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 8, 1), nn.ReLU(), nn.Conv1d(8, 1, 1))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"prediction": self.net(batch["obs"].unsqueeze(1)).squeeze(1)}


def test_a_graph_that_can_be_asked_only_once_is_left_to_the_training_loop() -> None:
    module, batch = torch.compile(Convolutional(), backend="aot_eager"), transitions()
    check_module(module, batch=batch, fwd_out=module(batch)).backward()
    assert module.net[0].weight.grad is not None
    torch._dynamo.reset()


class LazyPredictor(Predictor):
    """Makes its parameters when it is first used, in the loss method."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.LazyLinear(OBS_SIZE)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {}

    def error(self, batch: dict[str, torch.Tensor], fwd_out: dict[str, Any]) -> torch.Tensor:
        return self.net(batch["obs"]).square().mean()


class ReadsADistribution(Predictor):
    """Reads what a distribution computes on demand, in a tuple as a world model returns it."""

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"prior": (torch.distributions.Categorical(logits=self.net(batch["obs"])),)}

    def error(self, batch: dict[str, torch.Tensor], fwd_out: dict[str, Any]) -> torch.Tensor:
        return fwd_out["prior"][0].probs.square().mean()


class HasHooks(Predictor):
    """Its output cannot be pickled without a warning."""

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        fwd_out = super().forward(batch)
        fwd_out["prediction"].register_hook(lambda gradient: gradient)
        return fwd_out


class TakesAGradientOfItsOwn(Predictor):
    """Penalises the gradient with respect to its input, as discriminators do."""

    def error(self, batch: dict[str, torch.Tensor], fwd_out: dict[str, Any]) -> torch.Tensor:
        obs = batch["obs"].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.net(obs).square().sum(), obs, create_graph=True)
        return gradient.square().mean() + super().error(batch, fwd_out)


@pytest.mark.parametrize(
    "module_class", [LazyPredictor, ReadsADistribution, HasHooks, TakesAGradientOfItsOwn]
)
def test_what_only_looks_like_a_mistake_passes(module_class: type[Predictor]) -> None:
    module, batch = module_class(), transitions()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        check_module(module, batch=batch, fwd_out=module(batch)).backward()
    assert not warned


def test_a_module_on_the_meta_device_is_checked_but_for_its_numbers() -> None:
    with torch.device("meta"):
        right, wrong, batch = Predictor(), DetachesThePrediction(), transitions()
        assert check_module(right, batch=batch, fwd_out=right(batch)).is_meta
        assert violations_of(wrong, batch, wrong(batch)) == [NOTHING_IS_LEARNT]


class Counts(Predictor):
    """Keeps running statistics, draws random numbers, and switches its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(OBS_SIZE, affine=False)

    def compute_self_supervised_loss(
        self, *, batch: dict[str, Any], **arguments: Any
    ) -> torch.Tensor:
        self.count += 1
        self.norm(batch["obs"])
        self.eval()
        noise = random.random() + np.random.random() + torch.rand(())
        return (
            nn.functional.dropout(super().compute_self_supervised_loss(batch=batch, **arguments))
            + noise
        )


def test_buffers_change_as_in_one_step_and_nothing_else() -> None:
    module, batch = Counts(), transitions()
    module.target.eval()
    modes = [part.training for part in module.modules()]
    fwd_out = module(batch)

    def draw() -> list[float]:
        return [random.random(), np.random.random(), torch.rand(()).item()]

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = draw()
    seed()
    check_module(module, batch=batch, fwd_out=fwd_out).backward()
    assert draw() == expected
    assert module.count == 1
    assert module.norm.num_batches_tracked == 1
    assert [part.training for part in module.modules()] == modes


def test_a_jax_module_passes() -> None:
    module = LatentWorldModel(OBS_SIZE, NUM_ACTIONS, rngs=nnx.Rngs(0))
    batch = {column: jax.numpy.asarray(tensor.numpy()) for column, tensor in transitions().items()}
    assert check_module(module, batch=batch, fwd_out=module(batch)).shape == ()


class PredictsNextObs(SelfSupervisedLossAPI[jax.Array]):
    def compute_self_supervised_loss(
        self,
        *,
        learner: Any,
        module_id: str,
        batch: dict[str, Any],
        fwd_out: dict[str, jax.Array],
        **kwargs: Any,
    ) -> jax.Array:
        loss = jax.numpy.square(fwd_out["prediction"] - batch["new_obs"]).mean()
        learner.metrics.log_value((module_id, "loss"), loss)
        return loss


class NNXModel(nnx.Module, PredictsNextObs):
    def __init__(self) -> None:
        self.net = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=nnx.Rngs(0))

    def predict(self, obs: jax.Array) -> Any:
        return self.net(obs)


class LinenModel(linen.Module, PredictsNextObs):
    @linen.compact
    def __call__(self, obs: jax.Array) -> Any:
        return linen.Dense(OBS_SIZE)(obs)

    def predict(self, obs: jax.Array) -> Any:
        return self.apply(self.init(jax.random.key(0), obs), obs)


class EquinoxModel(eqx.Module, PredictsNextObs):
    net: eqx.nn.Linear

    def predict(self, obs: jax.Array) -> Any:
        return jax.vmap(self.net)(obs)


class HaikuLike(PredictsNextObs):
    """Has a method `parameters` that takes a key, as modules have that keep none."""

    def parameters(self, rng: jax.Array) -> Any:
        return jax.random.normal(rng, (OBS_SIZE,))

    def predict(self, obs: jax.Array) -> Any:
        return obs * self.parameters(jax.random.key(0))


@pytest.mark.parametrize(
    "make",
    [
        NNXModel,
        LinenModel,
        lambda: EquinoxModel(eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=jax.random.key(0))),
        HaikuLike,
    ],
    ids=["nnx", "linen", "equinox", "parameters(rng)"],
)
def test_a_module_of_any_jax_framework_passes(make: Callable[[], Any]) -> None:
    module = make()
    batch = {column: jax.numpy.asarray(tensor.numpy()) for column, tensor in transitions().items()}
    loss = check_module(module, batch=batch, fwd_out={"prediction": module.predict(batch["obs"])})
    assert loss > 0.0


class NumPyModule(SelfSupervisedLossAPI[np.float64]):
    def compute_self_supervised_loss(
        self,
        *,
        learner: Any,
        module_id: str,
        batch: dict[str, Any],
        fwd_out: dict[str, Any],
        **kwargs: Any,
    ) -> np.float64:
        learner.metrics.log_value(
            (module_id, "largest_error"), abs(fwd_out["p"] - batch["obs"]).max()
        )
        return ((fwd_out["p"] - batch["obs"]) ** 2).mean()


def test_a_numpy_module_passes() -> None:
    assert (
        check_module(NumPyModule(), batch={"obs": np.zeros(3)}, fwd_out={"p": np.full(3, 2.0)})
        == 4.0
    )


class Recurrent(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor


def test_containers_of_tensors_that_are_only_read_are_not_changed() -> None:
    class Reads(Predictor):
        def compute_self_supervised_loss(
            self, *, batch: dict[str, Any], **arguments: Any
        ) -> torch.Tensor:
            weight = batch["state"].hidden.mean() + batch["info"]["x"][0].mean()
            return weight * super().compute_self_supervised_loss(batch=batch, **arguments)

    state, info = (
        Recurrent(torch.ones(8), torch.ones(8)),
        {"x": [torch.ones(3, requires_grad=True)]},
    )
    module, batch = Reads(), {**transitions(), "state": state, "info": info}
    check_module(module, batch=batch, fwd_out=module(batch)).backward()
