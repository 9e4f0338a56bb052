"""`check_module` on modules of PyTorch, JAX and NumPy: what would train wrongly is told, and what
is right passes."""

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
from modules.icm import ICM
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

OBS_SIZE, NUM_ACTIONS = 4, 3


class Recurrent(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor


def transitions():
    torch.manual_seed(0)
    obs, new_obs = torch.randn(2, 8, OBS_SIZE)  # slices of one buffer
    return {
        "obs": obs,
        "new_obs": new_obs,
        "actions": torch.randint(NUM_ACTIONS, (8,)),
        "state": Recurrent(torch.ones(8), torch.ones(8)),
    }


def inputs_of(module):
    batch = module.batch()
    return {"batch": batch, "fwd_out": module(batch)}


def violations_of(module, *, batch, fwd_out):
    with pytest.raises(AssertionError) as raised:
        check_module(module, batch=batch, fwd_out=fwd_out)
    return [line.removeprefix("- ") for line in str(raised.value).splitlines()[1:]]


def state_of(module):
    parameters = [*module.parameters()]
    gradients = [parameter.grad for parameter in parameters]
    return [
        [(id(p), p.data_ptr(), p.requires_grad, p.tolist()) for p in parameters],
        [(id(g), g is None or g.tolist()) for g in gradients],
        [part.training for part in module.modules()],
    ]


class Predictor(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Predicts the next observation. What is right here is made wrong below, in one way each."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(OBS_SIZE, OBS_SIZE)
        self.target = nn.Linear(OBS_SIZE, OBS_SIZE).requires_grad_(False)

    def batch(self):
        return transitions()

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"])}

    def loss(self, batch, fwd_out):
        return (fwd_out["prediction"] - self.target(batch["new_obs"])).square().mean()

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return self.loss(batch, fwd_out)


def with_parts(module, **parts):
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def test_a_right_module_passes_is_left_alone_and_can_be_trained():
    module = Predictor()
    before = state_of(module)
    loss = check_module(module, **inputs_of(module))
    assert state_of(module) == before
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())


# A violation


class DetachesThePrediction(Predictor):
    def forward(self, batch):
        return {"prediction": self.net(batch["obs"]).detach()}


class StartsFromAnotherInstance(Predictor):
    """Its loss has a graph, which leads to none of its own parameters."""

    def forward(self, batch):
        return Predictor()(batch)


class StepsAnOptimizer(Predictor):
    def loss(self, batch, fwd_out):
        loss = super().loss(batch, fwd_out)
        loss.backward()
        torch.optim.Adam(self.net.parameters()).step()
        return loss


def returning(what):
    class Module(Predictor):
        def loss(self, batch, fwd_out):
            return what(super().loss(batch, fwd_out))

    return Module


def changing(change):
    class Module(Predictor):
        def loss(self, batch, fwd_out):
            loss = super().loss(batch, fwd_out)
            change(self, batch, fwd_out)
            return loss

    return Module


def copy_the_data(parameter):
    parameter.data = parameter.data.clone()


def replace_bias(layer):
    layer.bias = nn.Parameter(layer.bias.detach())


def detach_in(fwd_out, name):
    fwd_out[name] = fwd_out[name].detach()


NOTHING_IS_LEARNT = (
    "the loss has no gradient for any parameter, so that nothing would be learnt. Make fwd_out "
    "with this module and with gradients, and detach nothing on the way to the loss."
)


def changed(names):
    what_to_do = "Leave backward(), optimizer steps and updates of targets to the training loop."
    return f"the loss method changed {names}. {what_to_do}"


def is_not_as_before(name):
    return f"{name} is not as before. Leave the input as it is."


MISTAKES = {
    "detached prediction": (DetachesThePrediction, NOTHING_IS_LEARNT),
    "prediction of another instance": (StartsFromAnotherInstance, NOTHING_IS_LEARNT),
    "number": (
        returning(lambda loss: loss.item()),
        "the loss is a float without a gradient. Return the tensor, without item() or float().",
    ),
    "nothing": (
        returning(lambda loss: None),
        "the loss is None. Return one scalar, and log what else there is.",
    ),
    "root of zero": (
        returning(lambda loss: torch.where(loss > 0, loss, (0.0 * loss).sqrt())),
        "the gradient of the loss is NaN or infinite for net.weight, net.bias. "
        "Look for a root or a norm of zero, which torch.where does not keep away.",
    ),
    "step of an optimizer": (
        StepsAnOptimizer,
        changed("net.weight, net.weight.grad, net.bias, net.bias.grad"),
    ),
    "target that moves": (
        changing(lambda module, *_: module.target.weight.data.mul_(0.9)),
        changed("target.weight"),
    ),
    "target that moves to where it is": (
        changing(lambda module, *_: module.target.weight.mul_(1.0)),
        changed("target.weight"),
    ),
    "target with a copy of its data": (
        changing(lambda module, *_: copy_the_data(module.target.weight)),
        changed("target.weight"),
    ),
    "parameter replaced by one with its data": (
        changing(lambda module, *_: replace_bias(module.net)),
        changed("net.bias"),
    ),
    "parameter frozen": (
        changing(lambda module, *_: module.net.bias.requires_grad_(False)),
        changed("net.bias"),
    ),
    "switched to evaluation": (
        changing(lambda module, *_: module.eval()),
        "the loss method called train() or eval() on the module, net, target. Put the mode back.",
    ),
    "slice of a buffer normalised": (
        changing(lambda module, batch, fwd_out: batch["obs"].sub_(1.0)),
        is_not_as_before("batch['obs']"),
    ),
    "state clamped within its bounds": (
        changing(lambda module, batch, fwd_out: batch["state"].cell.clamp_(-100, 100)),
        is_not_as_before("batch['state']"),
    ),
    "output detached in its dict": (
        changing(lambda module, batch, fwd_out: detach_in(fwd_out, "prediction")),
        is_not_as_before("fwd_out['prediction']"),
    ),
}
each_mistake = pytest.mark.parametrize(
    ("module_class", "sentence"), MISTAKES.values(), ids=MISTAKES
)


@each_mistake
def test_a_mistake_gets_one_sentence(module_class, sentence):
    module = module_class()
    assert violations_of(module, **inputs_of(module)) == [sentence]


@each_mistake
@pytest.mark.parametrize("with_gradients", [False, True])
def test_the_module_is_as_before(module_class, sentence, with_gradients):
    module = module_class()
    if with_gradients:
        sum(parameter.sum() for parameter in module.net.parameters()).backward()
    before = state_of(module)
    violations_of(module, **inputs_of(module))
    assert state_of(module) == before


class Holder(SelfSupervisedLossAPI[torch.Tensor]):
    """Is no torch module, but has one, and a parameter."""

    def __init__(self):
        self.agents = [{"icm": StepsAnOptimizer()}]
        self.scale = nn.Parameter(torch.ones(()))

    def batch(self):
        return transitions()

    def __call__(self, batch):
        return {"prediction": self.scale * self.agents[0]["icm"](batch)["prediction"]}

    def compute_self_supervised_loss(self, **arguments):
        return self.agents[0]["icm"].compute_self_supervised_loss(**arguments)


def test_a_class_that_only_holds_torch_modules_is_checked_too():
    module = Holder()
    held = "agents[0]['icm'].net"
    before = state_of(module.agents[0]["icm"])
    assert violations_of(module, **inputs_of(module)) == [
        changed(f"{held}.weight, {held}.weight.grad, {held}.bias, {held}.bias.grad, scale.grad")
    ]
    assert state_of(module.agents[0]["icm"]) == before


def test_a_graph_that_backward_refuses():
    module = returning(lambda loss: loss.exp().add_(1.0))()
    (sentence,) = violations_of(module, **inputs_of(module))
    assert sentence.startswith("backward() fails with RuntimeError: one of the variables needed")
    assert sentence.endswith(
        "is at version 1; expected version 0 instead. "
        "Change nothing in place, and leave backward() to the training loop."
    )


def test_a_loss_that_is_not_reduced_and_cut_off_is_told_both():
    class Unreduced(StartsFromAnotherInstance):
        def loss(self, batch, fwd_out):
            return fwd_out["prediction"]

    module = Unreduced()
    assert violations_of(module, **inputs_of(module)) == [
        "the loss has shape (8, 4), not (). Return one scalar, and log what else there is.",
        NOTHING_IS_LEARNT,
    ]


@pytest.mark.parametrize("array", [np.zeros(1), torch.zeros(1), jnp.zeros(1)], ids=type)
def test_an_array_with_one_element_is_no_scalar(array):
    class Unreduced(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, learner, module_id, fwd_out, **kwargs):
            learner.metrics.log_value((module_id, "loss"), fwd_out["p"])
            return fwd_out["p"]

    assert violations_of(Unreduced(), batch={}, fwd_out={"p": array}) == [
        "the loss has shape (1,), not (). Return one scalar, and log what else there is.",
        "the value logged as ('module', 'loss') has shape (1,), not (). Log a scalar.",
    ]


def test_an_error_names_the_line_of_the_user_behind_a_decorator_and_before_torch():
    class Fails(Predictor):
        @torch.enable_grad()
        def compute_self_supervised_loss(self, *, batch, **arguments):
            return nn.functional.mse_loss(self.net(batch["obs"][:, :1]), batch["obs"])

    line = Fails.compute_self_supervised_loss.__wrapped__.__code__.co_firstlineno + 2
    (sentence,) = violations_of(Fails(), batch=transitions(), fwd_out={})
    assert sentence.startswith(
        f"compute_self_supervised_loss ({__file__}:{line}) raised RuntimeError: mat1 and mat2"
    )


# A hint


class IgnoresTheMask(Predictor):
    def batch(self):
        return super().batch() | {"loss_mask": torch.arange(8) < 6}


class RunsItsNetwork(Predictor):
    def loss(self, batch, fwd_out):
        return super().loss(batch, {"prediction": self.net(batch["obs"])})


class HasNoOutput(RunsItsNetwork):
    def forward(self, batch):
        return {}


class KeepsAllInContainers(Predictor):
    def __init__(self):
        nn.Module.__init__(self)
        self.heads = [nn.Linear(OBS_SIZE, OBS_SIZE)]
        self.offsets = {"first": nn.Parameter(torch.zeros(()))}

    def forward(self, batch):
        return {"prediction": self.heads[0](batch["obs"]) + self.offsets["first"]}

    def loss(self, batch, fwd_out):
        return fwd_out["prediction"].square().mean()


class TrainsAnEncoderToo(Predictor):
    def batch(self):
        return super().batch() | {"encoded": nn.Linear(1, 1)(torch.ones(8, 1))}

    def loss(self, batch, fwd_out):
        return super().loss(batch, fwd_out) + batch["encoded"].square().mean()


class KeepsAState(Predictor):
    """Its next step fails in `backward()`."""

    state = 0.0

    def forward(self, batch):
        self.state = self.net(batch["obs"] + self.state)
        return {"prediction": 2.0 * self.state}


class KeepsAStateOfTheLoss(Predictor):
    state = 0.0

    def loss(self, batch, fwd_out):
        self.state = fwd_out["prediction"] * (1.0 + self.state)
        return self.state.square().mean()


class HoldsStates(Holder):
    def __init__(self):
        super().__init__()
        self.states = []

    def compute_self_supervised_loss(self, *, fwd_out, **arguments):
        self.states.append(2.0 * fwd_out["prediction"])
        return self.states[-1].square().mean()


class CountsItself(Predictor):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def loss(self, batch, fwd_out):
        self.count += 1
        return super().loss(batch, fwd_out)


RUNS_ITS_NETWORK = (
    "the loss reaches the parameters, but not through fwd_out. Networks that the loss method runs "
    "itself cost twice the work, BatchNorm counts the batch twice, and DDP may not average their "
    "gradients: read fwd_out."
)


def is_kept_in(name):
    what_to_do = "Detach it there, or else backward() fails in the next step that reads it."
    return f"the graph of this step is kept in {name}. {what_to_do}"


HINTS = {
    "parameters that are not used": (
        lambda: with_parts(Predictor(), unused=nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))),
        "the loss has no gradient for unused.0.weight, unused.0.bias, unused.1.weight, "
        "unused.1.bias, unused.2.weight and 3 more. Freeze them, or ignore this if another loss "
        "trains them.",
    ),
    "all frozen": (
        lambda: Predictor().requires_grad_(False),
        "Predictor has no parameter that an optimizer could train. Register its networks, and do "
        "not freeze all of them.",
    ),
    "all in containers": (
        KeepsAllInContainers,
        "no optimizer would see heads[0].weight, heads[0].bias, offsets['first']. Keep networks in "
        "a torch.nn.ModuleList or ModuleDict, or in attributes.",
    ),
    "mask ignored": (
        IgnoresTheMask,
        "the loss also learns where batch['loss_mask'] is False, from fwd_out['prediction']. "
        "Leave those rows out of the loss: they are padding.",
    ),
    "network run in the loss": (RunsItsNetwork, RUNS_ITS_NETWORK),
    "network run in the loss alone": (HasNoOutput, RUNS_ITS_NETWORK),
    "encoder trained too": (
        TrainsAnEncoderToo,
        "the loss also trains what batch['encoded'] comes from. Detach them, or ignore this if "
        "that is meant.",
    ),
    "state of the forward pass kept": (KeepsAState, is_kept_in("state")),
    "state of the loss kept": (KeepsAStateOfTheLoss, is_kept_in("state")),
    "states held": (HoldsStates, is_kept_in("states[0]")),
    "buffer changed": (
        CountsItself,
        "the loss method changed the buffers count. Leave that to the training loop: losses are "
        "also computed to evaluate.",
    ),
}


@pytest.mark.parametrize(("make", "hint"), HINTS.values(), ids=HINTS)
def test_what_may_be_meant_gets_one_hint(make, hint):
    module = make()
    with pytest.warns(UserWarning) as warned:
        check_module(module, **inputs_of(module))
    assert [str(warning.message) for warning in warned] == [hint]


# No alarm


@pytest.fixture(scope="module")
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
    torch._dynamo.reset()


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
        torch.compile,
        DistributedDataParallel,
        every_part_sharded,
        partial(FullyShardedDataParallel, device_id=torch.device("cpu")),
        partial(FullyShardedDataParallel, device_id=torch.device("cpu"), use_orig_params=True),
        Fabric(accelerator="cpu", devices=1).setup,
    ],
    ids=["compile", "DDP", "fully_shard", "FSDP", "FSDP with original parameters", "Fabric"],
)
def test_a_wrapped_module_passes_and_can_be_trained(wrap, process_group):
    module, batch = wrap(ICM(OBS_SIZE, NUM_ACTIONS)), transitions()
    check_module(module, batch=batch, fwd_out=module(batch)).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_wrapped_module_that_learns_nothing_is_found_too():
    module = torch.compile(DetachesThePrediction(), backend="eager")
    assert violations_of(module, **inputs_of(module)) == [NOTHING_IS_LEARNT]
    torch._dynamo.reset()


def test_a_graph_that_can_be_asked_only_once_is_left_to_the_training_loop():
    convolutions = nn.Conv1d(1, 8, 1), nn.ReLU(), nn.Conv1d(8, 1, 1)
    net = nn.Sequential(nn.Unflatten(1, (1, OBS_SIZE)), *convolutions, nn.Flatten())
    module = torch.compile(with_parts(Predictor(), net=net), backend="aot_eager")
    check_module(module, **inputs_of(module)).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    torch._dynamo.reset()


class ReadsADistribution(Predictor):
    """Reads what a distribution computes on demand, in a tuple as a world model returns it."""

    def forward(self, batch):
        kind = torch.distributions.Categorical
        return {"prior": (kind(logits=self.net(batch["obs"])),), "kind": kind}

    def loss(self, batch, fwd_out):
        return fwd_out["prior"][0].probs.square().mean()


class HasHooks(Predictor):
    """Its output cannot be pickled without a warning."""

    def forward(self, batch):
        fwd_out = super().forward(batch)
        fwd_out["prediction"].register_hook(lambda gradient: gradient)
        return fwd_out


class TakesAGradientOfItsOwn(Predictor):
    """Penalises the gradient with respect to its input, as discriminators do."""

    def loss(self, batch, fwd_out):
        obs = batch["obs"].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.net(obs).square().sum(), obs, create_graph=True)
        return gradient.square().mean() + super().loss(batch, fwd_out)


class HasAFrozenEncoder(Predictor):
    """Trains a head alone, on an output that has no graph."""

    def forward(self, batch):
        return {"features": self.target(batch["obs"])}

    def loss(self, batch, fwd_out):
        return self.net(fwd_out["features"]).square().mean()


class MovesItsTarget(Predictor):
    def forward(self, batch):
        self.target.weight.mul_(0.9)
        return super().forward(batch)


class ContrastsTheRows(Predictor):
    """Compares each row with every other one, but for those that are masked."""

    def batch(self):
        return super().batch() | {"loss_mask": torch.tensor([True, False] * 4)}

    def forward(self, batch):
        return {"keys": self.net(batch["obs"]), "queries": self.net(batch["new_obs"])}

    def loss(self, batch, fwd_out):
        mask = batch["loss_mask"]
        logits = (fwd_out["queries"] @ fwd_out["keys"].T).masked_fill(~mask, -torch.inf)
        return nn.functional.cross_entropy(logits[mask], torch.arange(8)[mask])


class ComparesTimeSteps(ContrastsTheRows):
    """Its features see each other before its predictions are masked."""

    def forward(self, batch):
        features = self.net(batch["obs"])
        return {"features": features, "prediction": features.cumsum(dim=0)}

    def loss(self, batch, fwd_out):
        return fwd_out["prediction"][batch["loss_mask"]].square().mean()


class RenormalisesItsEmbedding(Predictor):
    """torch changes the weights in place, wherever they are used."""

    def __init__(self):
        super().__init__()
        self.actions = nn.Embedding(NUM_ACTIONS, OBS_SIZE, max_norm=0.1, sparse=True)

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"]) + self.actions(batch["actions"])}

    def loss(self, batch, fwd_out):
        return super().loss(batch, fwd_out) + self.actions(batch["actions"]).square().mean()


class KeepsItsTargetInAList(Predictor):
    """So that the target is in no checkpoint."""

    def __init__(self):
        super().__init__()
        self.targets = [nn.Linear(OBS_SIZE, OBS_SIZE), self.net]

    def loss(self, batch, fwd_out):
        target = self.targets[0](batch["new_obs"]).detach()
        return (fwd_out["prediction"] - target).square().mean()


class LeavesATermForTheLoss(Predictor):
    """Its forward pass keeps a term for the loss method, as mixtures of experts do."""

    def forward(self, batch):
        fwd_out = super().forward(batch)
        self.term = fwd_out["prediction"].abs().mean()
        return fwd_out

    def loss(self, batch, fwd_out):
        return super().loss(batch, fwd_out) + self.term


class SavesMemory(Predictor):
    def forward(self, batch):
        obs = batch["obs"].clone().requires_grad_()
        return {"prediction": checkpoint(self.net, obs, use_reentrant=True)}


class LearnsFromInferenceMode(Predictor):
    def forward(self, batch):
        with torch.inference_mode():
            target = self.target(batch["new_obs"])
        return {**super().forward(batch), "target": target}

    def loss(self, batch, fwd_out):
        return (fwd_out["prediction"] - fwd_out["target"]).square().mean()


class ReadsContainers(Predictor):
    def batch(self):
        return super().batch() | {"weights": [torch.ones(3, requires_grad=True)]}

    def loss(self, batch, fwd_out):
        weight = batch["state"].hidden.mean() + batch["weights"][0].mean()
        return weight * super().loss(batch, fwd_out)


NO_MISTAKES = {
    "lazy module": lambda: with_parts(HasNoOutput(), net=nn.LazyLinear(OBS_SIZE)),
    "part in TorchScript": lambda: with_parts(
        Predictor(), net=torch.jit.script(nn.Linear(OBS_SIZE, OBS_SIZE))
    ),
    # torch keeps a weight of spectral_norm as an attribute, with its graph
    "norms": lambda: with_parts(
        Predictor(),
        net=nn.Sequential(
            nn.utils.spectral_norm(nn.Linear(OBS_SIZE, OBS_SIZE)), nn.BatchNorm1d(OBS_SIZE)
        ),
    ),
    "buffer made when needed": changing(
        lambda module, *_: module.register_buffer("scale", torch.ones(()), persistent=False)
    ),
    "distribution": ReadsADistribution,
    "hooks": HasHooks,
    "gradient of its own": TakesAGradientOfItsOwn,
    "frozen encoder": HasAFrozenEncoder,
    "target moved by the forward pass": MovesItsTarget,
    "rows contrasted": ContrastsTheRows,
    "time steps compared": ComparesTimeSteps,
    "embedding renormalised": RenormalisesItsEmbedding,
    "target in a list": KeepsItsTargetInAList,
    "term left for the loss": LeavesATermForTheLoss,
    "checkpoint": SavesMemory,
    "inference mode": LearnsFromInferenceMode,
    "containers": ReadsContainers,
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", NO_MISTAKES.values(), ids=NO_MISTAKES)
def test_what_only_looks_like_a_mistake_passes(make):
    module = make()
    check_module(module, **inputs_of(module)).backward()


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
        assert violations_of(wrong, batch=batch, fwd_out=wrong(batch)) == [NOTHING_IS_LEARNT]


def test_the_random_state_is_as_before():
    def draw():
        return random.random(), np.random.random(), torch.rand(()).item()

    class DrawsNoise(Predictor):
        def loss(self, batch, fwd_out):
            return super().loss(batch, fwd_out) + sum(draw())

    module = DrawsNoise()
    inputs = inputs_of(module)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    check_module(module, **inputs)
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


any_framework = pytest.mark.parametrize("framework", [NNXModel, LinenModel, EquinoxModel])


def jax_module(framework, loss):
    return type("Module", (framework, PredictsNextObs), {"loss": staticmethod(loss)})()


def jax_transitions():
    batch = transitions()
    return {name: jnp.asarray(batch[name].numpy()) for name in ("obs", "new_obs")}


def stops_the_gradient(batch, fwd_out):
    return jax.lax.stop_gradient(squared_error(batch, fwd_out))


def returns_a_number(batch, fwd_out):
    return float(squared_error(batch, fwd_out))


def takes_the_root_of_zero(batch, fwd_out):
    distances = (fwd_out["prediction"] * 0.0).sum(axis=-1)
    return jnp.where(distances > 0, jnp.sqrt(distances), 0.0).mean()


@any_framework
@pytest.mark.parametrize(
    ("loss", "beginning"),
    [
        (stops_the_gradient, NOTHING_IS_LEARNT),
        (returns_a_number, "jax.grad fails with ConcretizationTypeError: "),
        (
            takes_the_root_of_zero,
            "the gradient of the loss is NaN or infinite for fwd_out['prediction']. ",
        ),
    ],
)
def test_a_mistake_in_jax_gets_one_sentence(framework, loss, beginning):
    module, batch = jax_module(framework, loss), jax_transitions()
    fwd_out = {"prediction": module.predict(batch["obs"])}
    (sentence,) = violations_of(module, batch=batch, fwd_out=fwd_out)
    assert sentence.startswith(beginning)


@any_framework
def test_a_right_module_in_jax_passes_if_it_is_not_for_a_mask(framework):
    module, batch = jax_module(framework, squared_error), jax_transitions()
    fwd_out = {"prediction": module.predict(batch["obs"])}
    assert check_module(module, batch=batch, fwd_out=fwd_out) > 0.0
    batch["loss_mask"] = jnp.arange(8) < 6
    with pytest.warns(UserWarning, match="learns where batch..loss_mask.. is False"):
        check_module(module, batch=batch, fwd_out=fwd_out)


class DropsOut(nnx.Module, SelfSupervisedLossAPI[jax.Array]):
    """Changes its state when it is run, the random count and the running statistics, and refers to
    itself."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.BatchNorm(OBS_SIZE, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.parent = nnx.data(self)

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return jnp.square(self.dropout(self.norm(fwd_out["prediction"]))).mean()


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
    assert violations_of(ChangesNumPyArrays(), **inputs) == [is_not_as_before("batch['obs']")]
