"""`check_module` says nothing about correct torch modules, however unusual they are."""

import copy
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from functools import partial

import pytest
import torch
from frameworks.predictor import (
    NUM_ACTIONS,
    OBS_SIZE,
    Predictor,
    changing,
    inputs_of,
    transitions,
    with_parts,
)
from lightning_fabric import Fabric
from modules.icm import ICM
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from self_supervised_loss.testing import check_module


def state_of(module):
    parameters = [*module.parameters()]
    gradients = [parameter.grad for parameter in parameters]
    return [
        [(id(p), p.data_ptr(), p.requires_grad, p.tolist()) for p in parameters],
        [(id(g), g is None or g.tolist()) for g in gradients],
        [part.training for part in module.modules()],
    ]


@pytest.mark.parametrize("with_gradients", [False, True])
def test_a_module_that_passes_is_unchanged_and_can_be_trained(with_gradients):
    module = Predictor()
    if with_gradients:
        sum(parameter.sum() for parameter in module.net.parameters()).backward()
    before = state_of(module)
    inputs = inputs_of(module)
    check_module(module, **inputs | {"fwd_out": lambda module: module(inputs["batch"])})
    loss = check_module(module, **inputs)
    assert state_of(module) == before
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())


# Wrappers


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


def test_a_graph_that_can_be_used_only_once_is_left_to_the_loop():
    convolutions = nn.Conv1d(1, 8, 1), nn.ReLU(), nn.Conv1d(8, 1, 1)
    net = nn.Sequential(nn.Unflatten(1, (1, OBS_SIZE)), *convolutions, nn.Flatten())
    module = torch.compile(with_parts(Predictor(), net=net), backend="aot_eager")
    check_module(module, **inputs_of(module)).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    torch._dynamo.reset()


# Unusual modules


class RunsInItsLoss(Predictor):
    def forward(self, batch):
        return {}

    def loss(self, batch, fwd_out):
        return super().loss(batch, {"prediction": self.net(batch["obs"])})


class ReadsADistribution(Predictor):
    """Reads a result that a distribution computes on demand, in a tuple as of a world model."""

    def forward(self, batch):
        kind = torch.distributions.Categorical
        return {"prior": (kind(logits=self.net(batch["obs"])),), "kind": kind}

    def loss(self, batch, fwd_out):
        return fwd_out["prior"][0].probs.square().mean()


class Stack(Mapping):
    """Computes its items at each access, as a stack of TensorDicts does."""

    def __init__(self, **rows):
        self.rows = rows

    def __getitem__(self, name):
        return torch.stack([*self.rows[name]])

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)


class ReturnsAStack(Predictor):
    def forward(self, batch):
        return {"inner": Stack(**super().forward(batch))}

    def loss(self, batch, fwd_out):
        return super().loss(batch, fwd_out["inner"])


class CompilesItsLoss(Predictor):
    def __init__(self):
        super().__init__()
        self.error = torch.compile(
            lambda a, b: (a - b).square().mean(), backend="eager", fullgraph=True
        )

    def loss(self, batch, fwd_out):
        return self.error(fwd_out["prediction"], batch["new_obs"])


class CachesItsActions(Predictor):
    """Reads a squashed Gaussian, which keeps the last action and its preimage."""

    def forward(self, batch):
        normal = torch.distributions.Normal(self.net(batch["obs"]), 1.0)
        tanh = torch.distributions.TanhTransform(cache_size=1)
        policy = torch.distributions.TransformedDistribution(normal, tanh)
        return {"policy": policy, "actions": policy.rsample()}

    def loss(self, batch, fwd_out):
        return -fwd_out["policy"].log_prob(fwd_out["policy"].rsample()).mean()


class HasHooks(Predictor):
    """Its output cannot be pickled without a warning."""

    def forward(self, batch):
        fwd_out = super().forward(batch)
        fwd_out["prediction"].register_hook(lambda gradient: gradient)
        return fwd_out


class PenalisesItsGradient(Predictor):
    """Penalises the gradient with respect to its input, as discriminators do."""

    def loss(self, batch, fwd_out):
        obs = batch["obs"].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.net(obs).square().sum(), obs, create_graph=True)
        return gradient.square().mean() + super().loss(batch, fwd_out)


class HasAFrozenEncoder(Predictor):
    """Trains only a head, on an output that has no graph."""

    def forward(self, batch):
        return {"features": self.target(batch["obs"])}

    def loss(self, batch, fwd_out):
        return self.net(fwd_out["features"]).square().mean()


class MovesItsTarget(Predictor):
    def forward(self, batch):
        self.target.weight.mul_(0.9)
        return super().forward(batch)


class DetachesItsTarget(Predictor):
    """Its target is a copy that could be trained, in a list so it is in no checkpoint."""

    def __init__(self):
        super().__init__()
        self.targets = [copy.deepcopy(self.net), self.net]

    def loss(self, batch, fwd_out):
        target = self.targets[0](batch["new_obs"]).detach()
        return (fwd_out["prediction"] - target).square().mean()


class HasClonedLayers(Predictor):
    """torch clones the layers, and the heads begin with the same constants."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(OBS_SIZE, nhead=1, dim_feedforward=8, dropout=0.0)
        self.net = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.scale, self.offset = nn.BatchNorm1d(OBS_SIZE), nn.BatchNorm1d(OBS_SIZE)

    def forward(self, batch):
        features = self.net(batch["obs"])
        return {"prediction": self.scale(features) + self.offset(features)}


class ContrastsTheRows(Predictor):
    """Compares each row with every other one, except those that are masked."""

    def batch(self):
        return super().batch() | {"loss_mask": torch.tensor([True, False] * 4)}

    def forward(self, batch):
        return {"keys": self.net(batch["obs"]), "queries": self.net(batch["new_obs"])}

    def loss(self, batch, fwd_out):
        mask = batch["loss_mask"]
        logits = (fwd_out["queries"] @ fwd_out["keys"].T).masked_fill(~mask, -torch.inf)
        return F.cross_entropy(logits[mask], torch.arange(8)[mask])


class ComparesTimeSteps(ContrastsTheRows):
    """Its features see each other before its predictions are masked."""

    def forward(self, batch):
        features = self.net(batch["obs"])
        return {"features": features, "prediction": features.cumsum(dim=0)}

    def loss(self, batch, fwd_out):
        return fwd_out["prediction"][batch["loss_mask"]].square().mean()


class ComparesAllPairs(Predictor):
    """Broadcasts columns and rows to squares, each time on purpose."""

    def loss(self, batch, fwd_out):
        errors = (fwd_out["prediction"] - batch["new_obs"]).square().mean(dim=-1)
        norms = fwd_out["prediction"].square().sum(dim=-1, keepdim=True)
        distances = norms + norms.squeeze(-1) - 2 * fwd_out["prediction"] @ batch["new_obs"].T
        same_action = batch["actions"].view(-1, 1) == batch["actions"]
        gaps = errors.unsqueeze(1) - errors, errors[:, None] - errors, errors.reshape(8, 1) - errors
        one_row = errors[:1].unsqueeze(0) * errors[:1]
        return (distances * same_action).mean() + sum(map(torch.mean, gaps)) + one_row.sum()


class RenormalisesItsEmbedding(Predictor):
    """torch changes the weights in place whenever they are used."""

    def __init__(self):
        super().__init__()
        self.actions = nn.Embedding(NUM_ACTIONS, OBS_SIZE, max_norm=0.1, sparse=True)

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"]) + self.actions(batch["actions"])}

    def loss(self, batch, fwd_out):
        return super().loss(batch, fwd_out) + self.actions(batch["actions"]).square().mean()


class HasSparseGradients(RenormalisesItsEmbedding):
    """Has had a first step."""

    def __init__(self):
        super().__init__()
        self.actions.max_norm = None
        self.actions(torch.arange(NUM_ACTIONS)).sum().backward()


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


class Scaled(torch.autograd.Function):
    """Trains a parameter that is not among its arguments, so the graph does not show it."""

    @staticmethod
    def forward(ctx, obs, net):
        ctx.net = net
        return net.weight.mean() * obs

    @staticmethod
    def backward(ctx, gradient):
        ctx.net.weight.grad = torch.ones_like(ctx.net.weight)
        return gradient, None


class HidesItsGraph(Predictor):
    def forward(self, batch):
        return {"prediction": Scaled.apply(batch["obs"].clone().requires_grad_(), self.net)}


class LearnsFromInferenceMode(Predictor):
    def __init__(self):
        super().__init__()
        with torch.inference_mode():
            self.target = nn.Linear(OBS_SIZE, OBS_SIZE).requires_grad_(False)

    def forward(self, batch):
        with torch.inference_mode():
            target = self.target(batch["new_obs"])
        return {**super().forward(batch), "target": target}

    def loss(self, batch, fwd_out):
        return (fwd_out["prediction"] - fwd_out["target"]).square().mean()


class ExpandsAParameter(Predictor):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1).expand(OBS_SIZE))

    def forward(self, batch):
        return {"prediction": self.scale * self.net(batch["obs"])}


class ReadsContainers(Predictor):
    def batch(self):
        return super().batch() | {"weights": [torch.ones(3, requires_grad=True)]}

    def loss(self, batch, fwd_out):
        weight = batch["state"].hidden.mean() + batch["weights"][0].mean()
        return weight * super().loss(batch, fwd_out)


class HasAnEnsemble(Predictor):
    """Trains the stacked parameters of five networks, as in the tutorial of `torch.func`."""

    def __init__(self):
        nn.Module.__init__(self)
        models = [nn.Linear(OBS_SIZE, OBS_SIZE) for _ in range(5)]
        self.params, _ = stack_module_state(models)
        self.base = copy.deepcopy(models[0]).to("meta")

    def forward(self, batch):
        run = torch.vmap(partial(functional_call, self.base), in_dims=(0, None))
        return {"prediction": run(self.params, batch["obs"])}

    def loss(self, batch, fwd_out):
        return (fwd_out["prediction"] - batch["new_obs"]).square().mean()


class OptimisesLatents(Predictor):
    """Takes steps on a latent during the call."""

    def loss(self, batch, fwd_out):
        latent = torch.zeros(OBS_SIZE, requires_grad=True)
        (gradient,) = torch.autograd.grad((latent - batch["new_obs"]).square().mean(), latent)
        target = latent - 0.1 * gradient
        return (fwd_out["prediction"] - target).square().mean()


class IsRecurrent(Predictor):
    def __init__(self, normalise):
        super().__init__()
        self.net = nn.LSTM(OBS_SIZE, OBS_SIZE)
        normalise(self.net, "weight_hh_l0")

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"])[0]}


class ReadsNestedTensors(Predictor):
    """Its batch has episodes of different lengths, and a mask over them."""

    def batch(self):
        episodes = [torch.randn(length, OBS_SIZE) for length in (3, 5)]
        obs = torch.nested.nested_tensor(episodes, layout=torch.jagged)
        mask = torch.nested.nested_tensor_from_jagged(torch.arange(8) < 6, obs.offsets())
        return {"obs": obs, "loss_mask": mask}

    def loss(self, batch, fwd_out):
        return fwd_out["prediction"].values()[batch["loss_mask"].values()].square().mean()


class Counted:
    """Has a version, as a replay buffer may, that is not a number."""

    shape, _version = (8,), "v2"


class HasRewardsOfItsOwnShape(Predictor):
    """Has a reward for each transition or agent, as the batch does."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def batch(self):
        obs = torch.randn(6, 2, OBS_SIZE)  # one observation more than there are transitions
        return {"obs": obs, "new_obs": obs, "rewards": torch.zeros(self.shape)}

    def forward(self, batch):
        return super().forward(batch) | {"intrinsic_rewards": torch.ones(self.shape)}


CORRECT = {
    "lazy module": lambda: with_parts(RunsInItsLoss(), net=nn.LazyLinear(OBS_SIZE)),
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
    "stack": ReturnsAStack,
    "compiled loss": CompilesItsLoss,
    "distribution with a cache": CachesItsActions,
    "hooks": HasHooks,
    "gradient penalty": PenalisesItsGradient,
    "frozen encoder": HasAFrozenEncoder,
    "target moved by the forward pass": MovesItsTarget,
    "target detached": DetachesItsTarget,
    "layers cloned": HasClonedLayers,
    "rows contrasted": ContrastsTheRows,
    "time steps compared": ComparesTimeSteps,
    "all pairs compared": ComparesAllPairs,
    "embedding renormalised": RenormalisesItsEmbedding,
    "sparse gradients": HasSparseGradients,
    "term left for the loss": LeavesATermForTheLoss,
    "reentrant checkpoint": SavesMemory,
    "graph hidden by a function": HidesItsGraph,
    "inference mode": LearnsFromInferenceMode,
    "parameter expanded": ExpandsAParameter,
    "containers": ReadsContainers,
    "functional ensemble": HasAnEnsemble,
    "latents optimised": OptimisesLatents,
    "recurrent with weight_norm": partial(IsRecurrent, nn.utils.parametrizations.weight_norm),
    "nested tensors": ReadsNestedTensors,
    "fewer rewards than observations": partial(HasRewardsOfItsOwnShape, (5, 2)),
    "a reward for each agent": partial(HasRewardsOfItsOwnShape, (6, 2, 3)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not:UserWarning")
@pytest.mark.parametrize("make", CORRECT.values(), ids=CORRECT)
def test_a_correct_module_gets_no_message(make):
    module = make()
    check_module(module, **inputs_of(module)).backward()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_the_older_weight_norm_gets_no_message():
    module = IsRecurrent(nn.utils.weight_norm)
    check_module(module, **inputs_of(module)).backward()


def test_an_object_in_the_batch_may_have_any_version():
    module = Predictor()
    batch = module.batch() | {"buffer": Counted()}
    check_module(module, batch=batch, fwd_out=module(batch))


def test_parameters_may_be_passed_as_a_keyword_argument():
    class RunsItsArguments(Predictor):
        def __init__(self):
            nn.Module.__init__(self)

        def compute_self_supervised_loss(self, *, batch, params, **kwargs):
            return (batch["obs"] @ params["weight"] - batch["new_obs"]).square().mean()

    params = {"weight": torch.zeros(OBS_SIZE, OBS_SIZE, requires_grad=True)}
    check_module(RunsItsArguments(), batch=transitions(), fwd_out={}, params=params)


def test_slices_cost_no_more_memory_than_their_size():
    buffer = torch.zeros(1_000_000, OBS_SIZE)
    module, batch = Predictor(), {"obs": buffer[:8], "new_obs": buffer[8:16]}
    fwd_out = module(batch)
    tracemalloc.start()
    check_module(module, batch=batch, fwd_out=fwd_out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < buffer.nbytes / 10


MEMORY_OF_A_CHECK = """
import resource, sys, torch
from frameworks.predictor import Predictor, inputs_of, with_parts
from self_supervised_loss.testing import check_module

module = Predictor()
check_module(module, **inputs_of(module))
assert "sympy" not in sys.modules, "importing it takes up to a second"

layers = [torch.nn.Linear(*sizes) for sizes in ((4, 5000), (5000, 5000), (5000, 4))]
module = with_parts(Predictor(), net=torch.nn.Sequential(*layers))
inputs = inputs_of(module)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
check_module(module, **inputs)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / sum(p.nbytes for p in module.parameters()))
"""


def test_a_check_costs_as_much_memory_as_the_gradients():
    program = [sys.executable, "-W", "error", "-c", MEMORY_OF_A_CHECK]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(program, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1.3
