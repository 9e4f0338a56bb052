"""`check_module` on modules of PyTorch, JAX and NumPy: what would train wrongly is told, and what
is right passes."""

import copy
import random
import tracemalloc
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from lightning_fabric import Fabric
from modules.actor_critic import ActorCritic
from modules.icm import ICM
from modules.rnd import RND
from modules.self_prediction import SelfPrediction
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

OBS_SIZE, NUM_ACTIONS = 4, 3


def transitions():
    torch.manual_seed(0)
    return {
        "obs": torch.randn(8, OBS_SIZE),
        "new_obs": torch.randn(8, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (8,)),
        "advantages": torch.randn(8),
        "value_targets": torch.randn(8),
    }


def violations_of(module, batch, fwd_out):
    with pytest.raises(AssertionError) as raised:
        check_module(module, batch=batch, fwd_out=fwd_out)
    return [line.removeprefix("- ") for line in str(raised.value).splitlines()[1:]]


class Predictor(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Predicts the next observation. What is right here is made wrong below, in one way each."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(OBS_SIZE, OBS_SIZE)
        self.target = nn.Linear(OBS_SIZE, OBS_SIZE).requires_grad_(False)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"])}

    def errors(self, batch, fwd_out):
        return (fwd_out["prediction"] - self.target(batch["new_obs"])).square()

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return self.errors(batch, fwd_out).mean()


def loss_of(module, **arguments):
    return Predictor.compute_self_supervised_loss(module, **arguments)


# A violation


class DetachesThePrediction(Predictor):
    def forward(self, batch):
        return {"prediction": self.net(batch["obs"]).detach()}


class DetachesTheLoss(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        return loss_of(self, **arguments).detach()


class StartsFromAnotherInstance(Predictor):
    def forward(self, batch):
        return Predictor()(batch)


class StartsFromASharedEncoder(Predictor):
    """Its loss has a graph, and trains the encoder alone."""

    def forward(self, batch):
        with torch.no_grad():
            prediction = self.net(batch["obs"])
        return {"prediction": prediction + nn.Linear(OBS_SIZE, OBS_SIZE)(batch["obs"])}


class ReturnsANumber(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        return loss_of(self, **arguments).item()


class ReturnsAnArray(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        return loss_of(self, **arguments).detach().numpy()


class ReturnsNothing(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        loss_of(self, **arguments)


class CallsBackward(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        loss = loss_of(self, **arguments)
        loss.backward()
        return loss


class StepsAnOptimizer(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        optimizer = torch.optim.Adam(self.net.parameters())
        loss = loss_of(self, **arguments)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss


class MovesItsTarget(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        self.target.weight.data.lerp_(self.net.weight.data, 0.01)
        return loss_of(self, **arguments)


class MovesAFreshTarget(Predictor):
    """No number changes, since both networks are still the same."""

    def __init__(self):
        super().__init__()
        self.target = copy.deepcopy(self.net).requires_grad_(False)

    @torch.no_grad()
    def move_target(self):
        for target_parameter, parameter in zip(
            self.target.parameters(), self.net.parameters(), strict=True
        ):
            target_parameter.lerp_(parameter, 0.01)

    def compute_self_supervised_loss(self, **arguments):
        self.move_target()
        return loss_of(self, **arguments)


class CopiesIntoAFreshTarget(MovesAFreshTarget):
    def move_target(self):
        self.target.weight.data = self.net.weight.data.clone()


class ReplacesTheData(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        self.target.weight.data = self.net.weight.data.clone()
        return loss_of(self, **arguments)


class ReplacesAParameter(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        loss = loss_of(self, **arguments)
        self.net.bias = nn.Parameter(self.net.bias.detach().clone())
        return loss


class FreezesAParameter(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        loss = loss_of(self, **arguments)
        self.net.bias.requires_grad_(False)
        return loss


class SwitchesToEvaluation(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        self.eval()
        return loss_of(self, **arguments)


class NormalisesTheBatch(Predictor):
    def compute_self_supervised_loss(self, *, batch, **arguments):
        batch["obs"] -= batch["obs"].mean()
        return loss_of(self, batch=batch, **arguments)


class ClampsWithinBounds(Predictor):
    def compute_self_supervised_loss(self, *, batch, **arguments):
        batch["new_obs"].clamp_(-100, 100)
        return loss_of(self, batch=batch, **arguments)


class DetachesInTheDict(Predictor):
    def compute_self_supervised_loss(self, *, fwd_out, **arguments):
        loss = loss_of(self, fwd_out=fwd_out, **arguments)
        fwd_out["prediction"] = fwd_out["prediction"].detach()
        return loss


class ChangesAnLSTMState(Predictor):
    def forward(self, batch):
        return {**super().forward(batch), "state": (torch.ones(8, 2), torch.ones(8, 2))}

    def compute_self_supervised_loss(self, *, fwd_out, **arguments):
        fwd_out["state"][1].zero_()
        return loss_of(self, fwd_out=fwd_out, **arguments)


class ChangesWhatHasAHook(Predictor):
    def forward(self, batch):
        noise = torch.ones(8, requires_grad=True) * 2.0
        noise.register_hook(lambda gradient: gradient)
        return {**super().forward(batch), "noise": noise}

    def compute_self_supervised_loss(self, *, fwd_out, **arguments):
        fwd_out["noise"].mul_(0.0)
        return loss_of(self, fwd_out=fwd_out, **arguments)


class TakesTheRootOfZero(Predictor):
    """Leaves out the rows that are zero, but not their gradient, which is 0 * infinity."""

    def errors(self, batch, fwd_out):
        distances = (fwd_out["prediction"] * 0.0).square().sum(dim=-1)
        return torch.where(distances > 0, distances.sqrt(), 0.0)


class ChangesItsGraph(Predictor):
    def errors(self, batch, fwd_out):
        weights = fwd_out["prediction"].exp()
        errors = weights.square()
        weights.add_(1.0)
        return errors


class HasAWrongGradient(Predictor):
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values * 2.0

        @staticmethod
        def backward(ctx, gradient):
            return gradient[:1]

    def errors(self, batch, fwd_out):
        return self.Scale.apply(fwd_out["prediction"])


class RewardsHaveAColumn(Predictor):
    def forward(self, batch):
        fwd_out = super().forward(batch)
        return {**fwd_out, "intrinsic_rewards": self.errors(batch, fwd_out).mean(-1, keepdim=True)}


class Holder(SelfSupervisedLossAPI[torch.Tensor]):
    """Is no torch module, but has one, and a parameter."""

    def __init__(self, module):
        self.agents = [{"icm": module}]
        self.scale = nn.Parameter(torch.ones(()))

    def __call__(self, batch):
        return {name: self.scale * v for name, v in self.agents[0]["icm"](batch).items()}

    def compute_self_supervised_loss(self, **arguments):
        return self.agents[0]["icm"].compute_self_supervised_loss(**arguments)


NOTHING_IS_LEARNT = (
    "the loss has no gradient for any parameter, so that nothing would be learnt. Make fwd_out "
    "with this module and with gradients, and detach nothing on the way to the loss."
)
LEAVE_TRAINING = "Leave backward(), optimizer steps and updates of targets to the training loop."
LEAVE_INPUT = "is not as before. Leave the input as it is."
RETURN_THE_TENSOR = "without a gradient. Return the tensor, without item() or float()."
HELD = "agents[0]['icm']"

each_mistake = pytest.mark.parametrize(
    ("module_class", "sentence"),
    [
        (DetachesThePrediction, NOTHING_IS_LEARNT),
        (DetachesTheLoss, NOTHING_IS_LEARNT),
        (StartsFromAnotherInstance, NOTHING_IS_LEARNT),
        (StartsFromASharedEncoder, NOTHING_IS_LEARNT),
        (ReturnsANumber, f"the loss is a float {RETURN_THE_TENSOR}"),
        (ReturnsAnArray, f"the loss is a ndarray {RETURN_THE_TENSOR}"),
        (ReturnsNothing, "the loss is None. Return one scalar, and log what else there is."),
        (
            CallsBackward,
            f"the loss method changed net.weight.grad, net.bias.grad. {LEAVE_TRAINING}",
        ),
        (StepsAnOptimizer, f"the loss method changed net.weight, net.bias. {LEAVE_TRAINING}"),
        (MovesItsTarget, f"the loss method changed target.weight. {LEAVE_TRAINING}"),
        (
            MovesAFreshTarget,
            f"the loss method changed target.weight, target.bias. {LEAVE_TRAINING}",
        ),
        (CopiesIntoAFreshTarget, f"the loss method changed target.weight. {LEAVE_TRAINING}"),
        (ReplacesTheData, f"the loss method changed target.weight. {LEAVE_TRAINING}"),
        (ReplacesAParameter, f"the loss method changed net.bias. {LEAVE_TRAINING}"),
        (FreezesAParameter, f"the loss method changed net.bias. {LEAVE_TRAINING}"),
        (
            SwitchesToEvaluation,
            "the loss method called train() or eval() on the module, net, target. "
            "Put the mode back.",
        ),
        (NormalisesTheBatch, f"batch['obs'] {LEAVE_INPUT}"),
        (ClampsWithinBounds, f"batch['new_obs'] {LEAVE_INPUT}"),
        (DetachesInTheDict, f"fwd_out['prediction'] {LEAVE_INPUT}"),
        (ChangesAnLSTMState, f"fwd_out['state'] {LEAVE_INPUT}"),
        (ChangesWhatHasAHook, f"fwd_out['noise'] {LEAVE_INPUT}"),
        (
            TakesTheRootOfZero,
            "the gradient of the loss is NaN or infinite for net.weight, net.bias. "
            "Look for a root or a norm of zero, which torch.where does not keep away.",
        ),
        (
            RewardsHaveAColumn,
            "fwd_out['intrinsic_rewards'] has shape (8, 1). "
            "Make one for each row, of shape (B,) or, over time, (B, T).",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)


@each_mistake
def test_a_mistake_gets_one_sentence(module_class, sentence):
    module, batch = module_class(), transitions()
    assert violations_of(module, batch, module(batch)) == [sentence]


@each_mistake
@pytest.mark.parametrize("with_gradients", [False, True])
def test_the_module_is_as_before(module_class, sentence, with_gradients):
    module, batch = module_class(), transitions()
    if with_gradients:
        sum(parameter.sum() for parameter in module.net.parameters()).backward()
    parameters = dict(module.named_parameters())
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    tensors = [t for t in (*parameters.values(), *gradients.values()) if t is not None]
    values = [tensor.detach().clone() for tensor in tensors]
    settings = (
        [p.requires_grad for p in parameters.values()],
        [p.training for p in module.modules()],
    )

    violations_of(module, batch, module(batch))

    assert all(parameter is parameters[name] for name, parameter in module.named_parameters())
    assert all(parameter.grad is gradients[name] for name, parameter in module.named_parameters())
    assert all(torch.equal(tensor, value) for tensor, value in zip(tensors, values, strict=True))
    assert settings == (
        [p.requires_grad for p in parameters.values()],
        [p.training for p in module.modules()],
    )


@pytest.mark.parametrize(
    ("module_class", "sentence"),
    [
        (DetachesTheLoss, NOTHING_IS_LEARNT),
        (ReturnsANumber, f"the loss is a float {RETURN_THE_TENSOR}"),
        (
            CallsBackward,
            f"the loss method changed {HELD}.net.weight.grad, {HELD}.net.bias.grad, scale.grad. "
            + LEAVE_TRAINING,
        ),
        (
            StepsAnOptimizer,
            f"the loss method changed {HELD}.net.weight, {HELD}.net.bias, scale.grad. "
            + LEAVE_TRAINING,
        ),
    ],
)
def test_a_class_that_only_holds_torch_modules_is_checked_too(module_class, sentence):
    module, batch = Holder(module_class()), transitions()
    weight = module.agents[0]["icm"].net.weight.detach().clone()
    assert violations_of(module, batch, module(batch)) == [sentence]
    assert torch.equal(module.agents[0]["icm"].net.weight, weight)


@pytest.mark.parametrize(
    ("module_class", "reason"),
    [
        (ChangesItsGraph, "has been modified by an inplace operation"),
        (HasAWrongGradient, "returned an invalid gradient at index 0"),
    ],
)
def test_a_graph_that_backward_refuses(module_class, reason):
    module, batch = module_class(), transitions()
    (sentence,) = violations_of(module, batch, module(batch))
    assert sentence.startswith("backward() fails with RuntimeError: ")
    assert reason in sentence
    assert sentence.endswith("Change nothing in place, and leave backward() to the training loop.")


def test_slices_of_one_buffer_are_told_apart():
    module, buffer = NormalisesTheBatch(), torch.randn(2, 8, OBS_SIZE)
    batch = {"obs": buffer[0], "new_obs": buffer[1]}
    assert violations_of(module, batch, module(batch)) == [f"batch['obs'] {LEAVE_INPUT}"]


def test_an_output_made_without_gradients():
    module, batch = Predictor(), transitions()
    with torch.no_grad():
        fwd_out = module(batch)
    assert violations_of(module, batch, fwd_out) == [NOTHING_IS_LEARNT]


@pytest.mark.parametrize("base", [DetachesThePrediction, StartsFromAnotherInstance])
def test_a_loss_that_is_not_reduced_and_cut_off_is_told_both(base):
    class Unreduced(base):
        def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
            return fwd_out["prediction"]

    module, batch = Unreduced(), transitions()
    assert violations_of(module, batch, module(batch)) == [
        "the loss has shape (8, 4), not (). Return one scalar, and log what else there is.",
        NOTHING_IS_LEARNT,
    ]


def test_an_array_with_one_element_is_no_scalar():
    class Unreduced(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, learner, module_id, fwd_out, **kwargs):
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
def test_a_change_in_place(name, array):
    class Normalises(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, **inputs):
            inputs[name]["rewards"][0] *= 2
            return 1.0

    inputs = {"batch": {}, "fwd_out": {}, name: {"rewards": array}}
    assert violations_of(Normalises(), **inputs) == [f"{name}['rewards'] {LEAVE_INPUT}"]


def test_an_error_names_the_line_of_the_user_behind_a_decorator_and_before_torch():
    class Fails(Predictor):
        @torch.enable_grad()
        def compute_self_supervised_loss(self, *, batch, **arguments):
            return nn.functional.mse_loss(self.net(batch["obs"][:, :1]), batch["obs"])

    line = Fails.compute_self_supervised_loss.__wrapped__.__code__.co_firstlineno + 2
    (sentence,) = violations_of(Fails(), transitions(), {})
    assert sentence.startswith(
        f"compute_self_supervised_loss ({__file__}:{line}) raised RuntimeError: mat1 and mat2"
    )


# A hint


class DoesNotUseAll(Predictor):
    def __init__(self):
        super().__init__()
        self.unused = nn.ModuleList(nn.Linear(1, 1) for _ in range(4))


class IgnoresTheMask(Predictor):
    """Its forward pass mixes the rows, which is no reason to blame the features."""

    def forward(self, batch):
        features = self.net(batch["obs"])
        return {"features": features, "prediction": features - features.mean(0)}


class RunsItsNetwork(Predictor):
    def errors(self, batch, fwd_out):
        return (self.net(batch["obs"]) - self.target(batch["new_obs"])).square()


class HasNoOutput(RunsItsNetwork):
    def forward(self, batch):
        return {}


class KeepsNetworksInAList(Predictor):
    def __init__(self):
        super().__init__()
        self.heads = [nn.Linear(OBS_SIZE, OBS_SIZE)]

    def forward(self, batch):
        return {"prediction": self.heads[0](self.net(batch["obs"]))}


class KeepsAllInADict(KeepsNetworksInAList):
    def __init__(self):
        nn.Module.__init__(self)
        self.heads = {"net": nn.Linear(OBS_SIZE, OBS_SIZE), "bias": nn.Parameter(torch.zeros(()))}

    def forward(self, batch):
        return {"prediction": self.heads["net"](batch["obs"]) + self.heads["bias"]}

    def errors(self, batch, fwd_out):
        return fwd_out["prediction"].square()


class IsFrozen(Predictor):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class TrainsAnEncoderToo(Predictor):
    def compute_self_supervised_loss(self, *, batch, **arguments):
        return loss_of(self, batch=batch, **arguments) + batch["encoded"].square().mean()


class KeepsAState(Predictor):
    """Its next step fails in `backward()`."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(OBS_SIZE, OBS_SIZE)
        self.state = torch.zeros(8, OBS_SIZE)

    def forward(self, batch):
        self.state = self.cell(self.net(batch["obs"]), self.state)
        return {"prediction": 2.0 * self.state}


class KeepsAStateOfTheLoss(KeepsAState):
    def forward(self, batch):
        return Predictor.forward(self, batch)

    def errors(self, batch, fwd_out):
        self.state = self.cell(fwd_out["prediction"], self.state)
        return self.state.square()


class HoldsAState(SelfSupervisedLossAPI[torch.Tensor]):
    def __init__(self):
        self.inner = KeepsAState()
        self.states = []

    def __call__(self, batch):
        return Predictor.forward(self.inner, batch)

    def compute_self_supervised_loss(self, *, fwd_out, **arguments):
        self.states.append(self.inner.cell(fwd_out["prediction"]))
        return self.states[-1].square().mean()


class CountsItself(Predictor):
    def compute_self_supervised_loss(self, **arguments):
        self.count += 1
        return loss_of(self, **arguments)


UNUSED = "Freeze them, or ignore this if another loss trains them."
RUNS_ITS_NETWORK = (
    "the loss reaches the parameters, but not through fwd_out. Networks that the loss method runs "
    "itself cost twice the work, BatchNorm counts the batch twice, and DDP may not average their "
    "gradients: read fwd_out."
)
REGISTER = "Keep networks in a torch.nn.ModuleList or ModuleDict, or in attributes."
IS_KEPT = (
    "the graph of this step is kept in {}. Detach it there, or else backward() fails in the next "
    "step that reads it."
)


@pytest.mark.parametrize(
    ("module_class", "hint"),
    [
        (
            DoesNotUseAll,
            "the loss has no gradient for unused.0.weight, unused.0.bias, unused.1.weight, "
            f"unused.1.bias, unused.2.weight and 3 more. {UNUSED}",
        ),
        (
            IgnoresTheMask,
            "the loss also learns where batch['loss_mask'] is False, from fwd_out['prediction']. "
            "Leave those rows out of the loss: they are padding.",
        ),
        (RunsItsNetwork, RUNS_ITS_NETWORK),
        (HasNoOutput, RUNS_ITS_NETWORK),
        (
            KeepsNetworksInAList,
            f"no optimizer would see heads[0].weight, heads[0].bias. {REGISTER}",
        ),
        (
            KeepsAllInADict,
            "no optimizer would see heads['net'].weight, heads['net'].bias, heads['bias']. "
            + REGISTER,
        ),
        (
            IsFrozen,
            "IsFrozen has no parameter that an optimizer could train. "
            "Register its networks, and do not freeze all of them.",
        ),
        (
            TrainsAnEncoderToo,
            "the loss also trains what batch['encoded'] comes from. "
            "Detach them, or ignore this if that is meant.",
        ),
        (KeepsAState, IS_KEPT.format("state")),
        (KeepsAStateOfTheLoss, IS_KEPT.format("state")),
        (HoldsAState, IS_KEPT.format("states[0]")),
        (
            CountsItself,
            "the loss method changed the buffers count. "
            "Leave that to the training loop: losses are also computed to evaluate.",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_may_be_meant_gets_one_hint(module_class, hint):
    module, batch = module_class(), transitions()
    if module_class is IgnoresTheMask:
        batch["loss_mask"] = torch.arange(8) < 6
    if module_class is TrainsAnEncoderToo:
        batch["encoded"] = nn.Linear(OBS_SIZE, 1)(batch["obs"])
    with pytest.warns(UserWarning) as warned:
        check_module(module, batch=batch, fwd_out=module(batch))
    assert [str(warning.message) for warning in warned] == [hint]


# No alarm


@pytest.fixture(scope="module")
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ICM(OBS_SIZE, NUM_ACTIONS),
        lambda: RND(OBS_SIZE),
        lambda: ActorCritic(OBS_SIZE, NUM_ACTIONS),
        lambda: SelfPrediction(nn.Linear(OBS_SIZE, 8), latent_size=8, num_actions=NUM_ACTIONS),
    ],
    ids=["ICM", "RND", "ActorCritic", "SelfPrediction"],
)
def test_a_torch_module_passes_and_nothing_of_it_changes(make):
    module, batch = make(), transitions()
    fwd_out = module(batch)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loss = check_module(module, batch=batch, fwd_out=fwd_out)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())


def every_part_sharded(module):
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
def test_a_wrapped_module_passes_and_can_be_trained(wrap, process_group):
    module, batch = wrap(ICM(OBS_SIZE, NUM_ACTIONS)), transitions()
    check_module(module, batch=batch, fwd_out=module(batch)).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_wrapped_module_that_learns_nothing_is_found_too():
    module, batch = torch.compile(DetachesThePrediction(), backend="eager"), transitions()
    assert violations_of(module, batch, module(batch)) == [NOTHING_IS_LEARNT]
    torch._dynamo.reset()


class Convolutional(Predictor):
    """Compiled, it gets a graph that can be asked for gradients once, so that it is not asked."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 8, 1), nn.ReLU(), nn.Conv1d(8, 1, 1))

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"].unsqueeze(1)).squeeze(1)}


def test_a_graph_that_can_be_asked_only_once_is_left_to_the_training_loop():
    module, batch = torch.compile(Convolutional(), backend="aot_eager"), transitions()
    check_module(module, batch=batch, fwd_out=module(batch)).backward()
    assert module.net[0].weight.grad is not None
    torch._dynamo.reset()


class LazyPredictor(Predictor):
    """Makes its parameters when it is first used, in the loss method."""

    def __init__(self):
        super().__init__()
        self.net = nn.LazyLinear(OBS_SIZE)

    def forward(self, batch):
        return {}

    def errors(self, batch, fwd_out):
        return self.net(batch["obs"]).square()


class ReadsADistribution(Predictor):
    """Reads what a distribution computes on demand, in a tuple as a world model returns it."""

    def forward(self, batch):
        kind = torch.distributions.Categorical
        return {"prior": (kind(logits=self.net(batch["obs"])),), "kind": kind}

    def errors(self, batch, fwd_out):
        return fwd_out["prior"][0].probs.square()


class HasHooks(Predictor):
    """Its output cannot be pickled without a warning."""

    def forward(self, batch):
        fwd_out = super().forward(batch)
        fwd_out["prediction"].register_hook(lambda gradient: gradient)
        return fwd_out


class TakesAGradientOfItsOwn(Predictor):
    """Penalises the gradient with respect to its input, as discriminators do."""

    def errors(self, batch, fwd_out):
        obs = batch["obs"].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.net(obs).square().sum(), obs, create_graph=True)
        return gradient.square() + super().errors(batch, fwd_out)


class HasAFrozenEncoder(Predictor):
    """Trains a head alone, on an output that has no graph."""

    def forward(self, batch):
        return {"features": self.target(batch["obs"])}

    def errors(self, batch, fwd_out):
        return (self.net(fwd_out["features"]) - batch["new_obs"]).square()


class HasATargetThatTheLoopMoved(MovesAFreshTarget):
    def forward(self, batch):
        self.move_target()
        return super().forward(batch)

    def compute_self_supervised_loss(self, **arguments):
        return loss_of(self, **arguments)


class ContrastsTheRows(Predictor):
    """Compares each row with every other one, but for those that are masked."""

    def forward(self, batch):
        return {"keys": self.net(batch["obs"]), "queries": self.net(batch["new_obs"])}

    def errors(self, batch, fwd_out):
        mask = batch["loss_mask"]
        logits = fwd_out["queries"] @ fwd_out["keys"].T
        logits = logits.masked_fill(~mask, -torch.inf)
        rows = torch.arange(len(mask))
        errors = nn.functional.cross_entropy(logits[mask], rows[mask], reduction="none")
        return errors


class ComparesTimeSteps(Predictor):
    """Its features see each other before its predictions are masked."""

    def forward(self, batch):
        features = self.net(batch["obs"])
        return {"features": features, "prediction": features.cumsum(dim=0)}

    def errors(self, batch, fwd_out):
        return super().errors(batch, fwd_out)[batch["loss_mask"]]


class RenormalisesItsEmbedding(Predictor):
    """torch changes the weights in place, wherever they are used."""

    def __init__(self):
        super().__init__()
        self.actions = nn.Embedding(NUM_ACTIONS, OBS_SIZE, max_norm=0.1, sparse=True)

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"]) + self.actions(batch["actions"])}

    def errors(self, batch, fwd_out):
        return super().errors(batch, fwd_out) + self.actions(batch["actions"]).square()


class MakesABufferWhenNeeded(Predictor):
    def errors(self, batch, fwd_out):
        self.register_buffer("scale", batch["new_obs"].std(), persistent=False)
        return super().errors(batch, fwd_out) / self.scale


class KeepsItsTargetInAList(Predictor):
    """So that the target is in no checkpoint."""

    def __init__(self):
        super().__init__()
        self.targets = [nn.Linear(OBS_SIZE, OBS_SIZE), self.net]

    def errors(self, batch, fwd_out):
        with torch.no_grad():
            target = self.targets[0](batch["new_obs"])
        return (fwd_out["prediction"] - target).square()


class LeavesATermForTheLoss(Predictor):
    """Its forward pass keeps a term for the loss method, as mixtures of experts do."""

    def forward(self, batch):
        fwd_out = super().forward(batch)
        self.term = fwd_out["prediction"].abs()
        return fwd_out

    def errors(self, batch, fwd_out):
        return super().errors(batch, fwd_out) + self.term


class HasNorms(Predictor):
    """torch keeps a weight of spectral_norm as an attribute, with its graph."""

    def __init__(self):
        super().__init__()
        linear = nn.utils.spectral_norm(nn.Linear(OBS_SIZE, OBS_SIZE))
        self.net = nn.Sequential(linear, nn.BatchNorm1d(OBS_SIZE))


class HasAPartInTorchScript(Predictor):
    def __init__(self):
        super().__init__()
        self.net = torch.jit.script(self.net)


class SavesMemory(Predictor):
    def forward(self, batch):
        obs = batch["obs"].clone().requires_grad_()
        return {"prediction": checkpoint(self.net, obs, use_reentrant=True)}


class LearnsFromInferenceMode(Predictor):
    def forward(self, batch):
        with torch.inference_mode():
            target = self.target(batch["new_obs"])
        return {**super().forward(batch), "target": target}

    def errors(self, batch, fwd_out):
        return (fwd_out["prediction"] - fwd_out["target"]).square()


class Recurrent(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor


class ReadsContainers(Predictor):
    def errors(self, batch, fwd_out):
        weight = batch["state"].hidden.mean() + batch["info"]["x"][0].mean()
        return weight * super().errors(batch, fwd_out)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "module_class",
    [
        LazyPredictor,
        ReadsADistribution,
        HasHooks,
        TakesAGradientOfItsOwn,
        HasAFrozenEncoder,
        HasATargetThatTheLoopMoved,
        ContrastsTheRows,
        ComparesTimeSteps,
        RenormalisesItsEmbedding,
        MakesABufferWhenNeeded,
        KeepsItsTargetInAList,
        LeavesATermForTheLoss,
        HasNorms,
        HasAPartInTorchScript,
        SavesMemory,
        LearnsFromInferenceMode,
        ReadsContainers,
    ],
)
def test_what_only_looks_like_a_mistake_passes(module_class):
    module, batch = module_class(), transitions()
    batch["loss_mask"] = torch.tensor([True, False] * 4)
    if module_class not in (ContrastsTheRows, ComparesTimeSteps):
        del batch["loss_mask"]
    batch["state"] = Recurrent(torch.ones(8), torch.ones(8))
    batch["info"] = {"x": [torch.ones(3, requires_grad=True)]}
    check_module(module, batch=batch, fwd_out=module(batch)).backward()


def test_slices_cost_no_more_than_themselves():
    buffer = torch.zeros(1_000_000, OBS_SIZE)
    module, batch = Predictor(), {"obs": buffer[:8], "new_obs": buffer[8:16]}
    fwd_out = module(batch)
    tracemalloc.start()
    check_module(module, batch=batch, fwd_out=fwd_out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < buffer.nbytes / 10


def test_a_module_on_the_meta_device_is_checked_but_for_its_numbers():
    with torch.device("meta"):
        right, wrong, batch = Predictor(), DetachesThePrediction(), transitions()
        batch["loss_mask"] = torch.ones(8, dtype=torch.bool)
        assert check_module(right, batch=batch, fwd_out=right(batch)).is_meta
        assert violations_of(wrong, batch, wrong(batch)) == [NOTHING_IS_LEARNT]


class DrawsNoise(Predictor):
    def errors(self, batch, fwd_out):
        noise = random.random() + np.random.random() + torch.rand(())
        return super().errors(batch, fwd_out) + noise


def test_the_random_state_is_as_before():
    def seed():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    def draw():
        return [random.random(), np.random.random(), torch.rand(()).item()]

    module, batch = DrawsNoise(), transitions()
    seed()
    expected = draw()
    seed()
    check_module(module, batch=batch, fwd_out=module(batch))
    assert draw() == expected


# JAX and NumPy


def squared_error(batch, fwd_out):
    return jnp.square(fwd_out["prediction"] - batch["new_obs"]).mean()


class PredictsNextObs(SelfSupervisedLossAPI[jax.Array]):
    def compute_self_supervised_loss(self, *, learner, module_id, batch, fwd_out, **kwargs):
        assert learner.module[module_id] is self
        loss = type(self).loss(batch, fwd_out)
        learner.metrics.log_value((module_id, "loss"), loss)
        return loss


class NNXModel(nnx.Module):
    def __init__(self):
        self.net = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=nnx.Rngs(0))

    def predict(self, obs):
        return self.net(obs)


class LinenModel(linen.Module):
    @linen.compact
    def __call__(self, obs):
        return linen.Dense(OBS_SIZE)(obs)

    def predict(self, obs):
        return self.apply(self.init(jax.random.key(0), obs), obs)


class EquinoxModel(eqx.Module):
    net: eqx.nn.Linear = eqx.nn.Linear(OBS_SIZE, OBS_SIZE, key=jax.random.key(0))

    def predict(self, obs):
        return jax.vmap(self.net)(obs)


class HaikuLike:
    """Has a method `parameters` that takes a key, as modules have that keep none."""

    def parameters(self, rng):
        return jax.random.normal(rng, (OBS_SIZE,))

    def predict(self, obs):
        return obs * self.parameters(jax.random.key(0))


any_framework = pytest.mark.parametrize(
    "framework", [NNXModel, LinenModel, EquinoxModel, HaikuLike]
)


def jax_module(framework, loss):
    return type("Module", (framework, PredictsNextObs), {"loss": staticmethod(loss)})()


def jax_transitions():
    return {name: jnp.asarray(column.numpy()) for name, column in transitions().items()}


def stops_the_gradient(batch, fwd_out):
    return jax.lax.stop_gradient(squared_error(batch, fwd_out))


def returns_a_number(batch, fwd_out):
    return float(squared_error(batch, fwd_out))


def computes_with_numpy(batch, fwd_out):
    return np.square(np.asarray(fwd_out["prediction"]) - batch["new_obs"]).mean()


def decides_by_the_loss(batch, fwd_out):
    loss = squared_error(batch, fwd_out)
    return loss if loss > 0.1 else 0.0 * loss


def takes_the_root_of_zero(batch, fwd_out):
    distances = (fwd_out["prediction"] * 0.0).sum(axis=-1)
    return jnp.where(distances > 0, jnp.sqrt(distances), 0.0).mean()


@any_framework
@pytest.mark.parametrize(
    ("loss", "beginning"),
    [
        (stops_the_gradient, NOTHING_IS_LEARNT),
        (returns_a_number, "jax.grad fails with ConcretizationTypeError: "),
        (computes_with_numpy, "jax.grad fails with TracerArrayConversionError: "),
        (decides_by_the_loss, "jax.grad fails with TracerBoolConversionError: "),
        (
            takes_the_root_of_zero,
            "the gradient of the loss is NaN or infinite for fwd_out['prediction']. ",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_in_jax_gets_one_sentence(framework, loss, beginning):
    module, batch = jax_module(framework, loss), jax_transitions()
    (sentence,) = violations_of(module, batch, {"prediction": module.predict(batch["obs"])})
    assert sentence.startswith(beginning)


@any_framework
def test_a_mask_that_is_ignored_in_jax(framework):
    module, batch = jax_module(framework, squared_error), jax_transitions()
    batch["loss_mask"] = jnp.arange(8) < 6
    with pytest.warns(UserWarning, match="learns where batch..loss_mask.. is False"):
        check_module(module, batch=batch, fwd_out={"prediction": module.predict(batch["obs"])})


@any_framework
def test_a_right_module_in_jax_passes(framework):
    module, batch = jax_module(framework, squared_error), jax_transitions()
    fwd_out = {"prediction": module.predict(batch["obs"])}
    assert check_module(module, batch=batch, fwd_out=fwd_out) > 0.0


class DropsOut(nnx.Module, SelfSupervisedLossAPI[jax.Array]):
    """Changes its state when it is run: the random count, and the running statistics."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.net = nnx.Linear(OBS_SIZE, OBS_SIZE, rngs=rngs)
        self.norm = nnx.BatchNorm(OBS_SIZE, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(self.dropout(self.norm(fwd_out["prediction"]))).mean()


class RefersToItself(DropsOut):
    def __init__(self):
        super().__init__()
        self.parent = nnx.data(self)


class HoldsAFlaxModule(SelfSupervisedLossAPI[jax.Array]):
    def __init__(self):
        self.inner = DropsOut()

    def compute_self_supervised_loss(self, **arguments):
        return self.inner.compute_self_supervised_loss(**arguments)


class RunsItsNetworkInJAX(EquinoxModel, SelfSupervisedLossAPI[jax.Array]):
    def compute_self_supervised_loss(self, *, batch, **kwargs):
        return jnp.square(self.predict(batch["obs"])).mean()


class HoldsAnEquinoxModule(HoldsAFlaxModule):
    def __init__(self):
        self.inner = RunsItsNetworkInJAX()


class IsJitted(EquinoxModel, SelfSupervisedLossAPI[jax.Array]):
    @eqx.filter_jit
    def compute_self_supervised_loss(self, *, batch, fwd_out, **kwargs):
        return squared_error(batch, fwd_out)


class IsPerfect(EquinoxModel, SelfSupervisedLossAPI[jax.Array]):
    """Its gradient is zero since its loss is."""

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(fwd_out["prediction"] - fwd_out["prediction"]).sum()


@pytest.mark.parametrize(
    "module_class",
    [
        DropsOut,
        RefersToItself,
        HoldsAFlaxModule,
        RunsItsNetworkInJAX,
        HoldsAnEquinoxModule,
        IsJitted,
        IsPerfect,
    ],
)
def test_what_only_looks_like_a_mistake_in_jax_passes(module_class):
    batch = jax_transitions()
    check_module(module_class(), batch=batch, fwd_out={"prediction": 2.0 * batch["obs"]})


class NumPyModule(SelfSupervisedLossAPI[np.float64]):
    def compute_self_supervised_loss(self, *, learner, module_id, batch, fwd_out, **kwargs):
        largest_error = abs(fwd_out["p"] - batch["obs"]).max()
        learner.metrics.log_value((module_id, "largest_error"), largest_error)
        return ((fwd_out["p"] - batch["obs"]) ** 2).mean()


def test_a_numpy_module_passes():
    batch, fwd_out = {"obs": np.zeros(3)}, {"p": np.full(3, 2.0)}
    assert check_module(NumPyModule(), batch=batch, fwd_out=fwd_out) == 4.0
