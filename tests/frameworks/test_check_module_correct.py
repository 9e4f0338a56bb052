"""`check_module` says nothing about correct torch modules, however unusual they are."""

import copy
import os
import subprocess
import sys
from collections import OrderedDict
from functools import partial

import pytest
import torch
from frameworks.predictor import (
    NUM_ACTIONS,
    SIZE,
    Predictor,
    changing,
    error,
    inputs_of,
    linear,
    predict,
    predicting,
    predictor,
    transitions,
)
from tensordict import LazyStackedTensorDict, TensorDict
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.utils.checkpoint import checkpoint
from unit.checking import check, module_with

from self_supervised_loss.testing import check_module


def state_of(module):
    tensors = [tensor for p in module.parameters() for tensor in (p, p.grad) if tensor is not None]
    state = [(id(t), t.data_ptr(), t.requires_grad, t.tolist()) for t in tensors]
    return state, [part.training for part in module.modules()]


def test_a_module_that_passes_is_unchanged_and_can_be_trained():
    module = Predictor()
    module.net.weight.grad = torch.ones(SIZE, SIZE)
    before = state_of(module)
    inputs = inputs_of(module)
    check_module(module, **inputs | {"fwd_out": lambda module: module(inputs["batch"])})
    loss = check_module(module, **inputs)
    assert state_of(module) == before
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())


# Unusual modules


def mean_square(self, batch, out):
    return out["prediction"].square().mean()


def stack(self, batch):
    """Returns a stack of TensorDicts, which computes its items at each access."""
    rows = TensorDict(predict(self, batch), [8])
    return {"inner": LazyStackedTensorDict.lazy_stack([*rows])}


def distributions(self, batch):
    """Holds a class, and a distribution in a tuple as of a world model."""
    kind = torch.distributions.Categorical
    return {"prior": (kind(logits=self.net(batch["obs"])),), "kind": kind}


def gradient_penalty(self, batch, out):
    """Differentiates by a tensor of this call, as discriminators and optimised latents do."""
    obs = batch["obs"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(self.net(obs).square().sum(), obs, create_graph=True)
    return gradient.square().mean() + error(self, batch, out)


def compare_with_a_target_in_a_list(self, batch, out):
    return (out["prediction"] - self.targets[0](batch["new_obs"]).detach()).square().mean()


def keep_a_target_in_a_list():
    """Keeps a target that could be trained where no checkpoint finds it."""
    net = linear()
    return predictor(loss=compare_with_a_target_in_a_list)(net=net, targets=[linear(), net])


def clone_layers():
    """Makes a network with two equal layers, and two norms that begin with the same constants."""
    layer = nn.Sequential(linear(), nn.BatchNorm1d(SIZE))
    layers = {"layer1": layer, "layer2": copy.deepcopy(layer), "norm": nn.BatchNorm1d(SIZE)}
    return Predictor(net=nn.Sequential(OrderedDict(layers)))


def attend_over_time(self, batch):
    features = self.net(batch["obs"])
    return {"features": features, "prediction": features.cumsum(dim=0)}


def compare_all_pairs(self, batch, out):
    """Broadcasts columns and rows to squares, each time on purpose."""
    errors = (out["prediction"] - batch["new_obs"]).square().mean(dim=-1)
    norms = out["prediction"].square().sum(dim=-1, keepdim=True)
    distances = norms + norms.squeeze(-1) - 2 * out["prediction"] @ batch["new_obs"].T
    same_action = batch["actions"].view(-1, 1) == batch["actions"]
    gaps = errors.unsqueeze(1) - errors, errors[:, None] - errors, errors.reshape(8, 1) - errors
    scaled = (2.0 * errors[..., None]).detach().double() - errors
    one_row = norms[:1] * errors[:1]
    return (distances * same_action + scaled).mean() + sum(map(torch.mean, gaps)) + one_row.sum()


class RenormalisesItsEmbedding(Predictor):
    """torch changes the weights in place whenever they are used."""

    def __init__(self):
        super().__init__(actions=nn.Embedding(NUM_ACTIONS, SIZE, max_norm=0.1))

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"]) + self.actions(batch["actions"])}

    def loss(self, batch, out):
        return error(self, batch, out) + self.actions(batch["actions"]).square().mean()


def take_a_first_step():
    """Makes a module whose gradients are all sparse."""
    net = nn.Embedding(NUM_ACTIONS, SIZE, sparse=True)
    net(torch.arange(NUM_ACTIONS)).sum().backward()
    return predictor(forward=lambda self, batch: {"prediction": self.net(batch["actions"])})(
        net=net
    )


def leave_a_term_for_the_loss(self, batch):
    """Does as mixtures of experts do."""
    out = predict(self, batch)
    self.term = out["prediction"].abs().mean()
    return out


@torch.inference_mode()
def run_the_target(self, batch):
    return self.target(batch["new_obs"])


class HasAnEnsemble(Predictor):
    """Trains the stacked parameters of five networks, as in the tutorial of `torch.func`."""

    def __init__(self):
        models = [linear() for _ in range(5)]
        super().__init__(net=None, params=stack_module_state(models)[0])
        self.base = copy.deepcopy(models[0]).to("meta")

    def net(self, obs):
        run = torch.vmap(partial(functional_call, self.base), in_dims=(0, None))
        return run(self.params, obs)


class MakesParametersOnDemand(Predictor):
    """Makes one when asked for those of a single layer, as Keras does."""

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        if not recurse:
            self.made = nn.Parameter(torch.zeros(()))
        return super().named_parameters(prefix, recurse, remove_duplicate)


def recurrent(normalise):
    lstm = nn.LSTM(SIZE, SIZE)
    normalise(lstm, "weight_hh_l0")
    return predicting(lambda self, obs: self.net(obs)[0])(net=lstm)


class ReadsNestedTensors(Predictor):
    """Its batch has episodes of different lengths, and a mask over them."""

    def batch(self):
        episodes = [torch.randn(length, SIZE) for length in (3, 5)]
        obs = torch.nested.nested_tensor(episodes, layout=torch.jagged)
        mask = torch.nested.nested_tensor_from_jagged(torch.arange(8) < 6, obs.offsets())
        return {"obs": obs, "loss_mask": mask}

    def loss(self, batch, out):
        return out["prediction"].values()[batch["loss_mask"].values()].square().mean()


def compile_for_one_backward_pass():
    net = nn.Sequential(linear(), nn.Tanh(), linear())
    module = torch.compile(Predictor(net=net), backend="aot_eager")
    module(transitions())["prediction"].sum().backward()
    return module


CORRECT = {
    "lazy module": lambda: predictor(
        forward=lambda self, batch: {},
        loss=lambda self, batch, out: self.net(batch["obs"]).square().mean(),
    )(net=nn.LazyLinear(SIZE)),
    "part in TorchScript": lambda: Predictor(net=torch.jit.script(linear())),
    "buffer made when needed": changing(
        lambda self, *_: self.register_buffer("scale", torch.ones(()), persistent=False)
    ),
    "parameters made on demand": MakesParametersOnDemand,
    "distributions": predictor(
        forward=distributions, loss=lambda self, batch, out: out["prior"][0].probs.square().mean()
    ),
    "stack": predictor(
        forward=stack, loss=lambda self, batch, out: error(self, batch, out["inner"])
    ),
    "compiled for one backward pass": compile_for_one_backward_pass,
    "compiled loss": predictor(loss=torch.compile(mean_square, backend="eager", fullgraph=True)),
    "gradient penalty": predictor(loss=gradient_penalty),
    "frozen encoder": predictor(
        forward=lambda self, batch: {"features": self.target(batch["obs"])},
        loss=lambda self, batch, out: self.net(out["features"]).square().mean(),
    ),
    "parameters among the outputs": predictor(
        forward=lambda self, batch: predict(self, batch) | dict(self.named_parameters()),
        loss=lambda self, batch, out: (
            (self.net(batch["obs"]) - 2 * out["net.bias"]).square().mean()
        ),
    ),
    "target detached": keep_a_target_in_a_list,
    "layers cloned": clone_layers,
    "time steps that see each other": predictor(
        batch=lambda self: transitions() | {"loss_mask": torch.tensor([True, False] * 4)},
        forward=attend_over_time,
        loss=lambda self, batch, out: out["prediction"][batch["loss_mask"]].square().mean(),
    ),
    "all pairs compared": predictor(loss=compare_all_pairs),
    "embedding renormalised": RenormalisesItsEmbedding,
    "sparse gradients": take_a_first_step,
    "term left for the loss": predictor(
        forward=leave_a_term_for_the_loss,
        loss=lambda self, batch, out: error(self, batch, out) + self.term,
    ),
    "reentrant checkpoint": lambda: predicting(
        lambda self, obs: checkpoint(self.net, self.encoder(obs), use_reentrant=True)
    )(encoder=linear()),
    # Its parameters are not in the graph.
    "reentrant checkpoint of all networks": predicting(
        lambda self, obs: checkpoint(self.net, obs.clone().requires_grad_(), use_reentrant=True)
    ),
    "inference mode": predictor(
        forward=lambda self, batch: predict(self, batch) | {"target": run_the_target(self, batch)},
        loss=lambda self, batch, out: (out["prediction"] - out["target"]).square().mean(),
    ),
    "parameter expanded": lambda: predicting(lambda self, obs: self.scale * self.net(obs))(
        scale=nn.Parameter(torch.ones(1).expand(SIZE))
    ),
    "containers": predictor(
        batch=lambda self: transitions() | {"weights": [torch.ones(3, requires_grad=True)]},
        loss=lambda self, batch, out: (
            (batch["state"].hidden.mean() + batch["weights"][0].mean()) * error(self, batch, out)
        ),
    ),
    "functional ensemble": HasAnEnsemble,
    "recurrent with weight_norm": lambda: recurrent(nn.utils.parametrizations.weight_norm),
    "recurrent with the older weight_norm": lambda: recurrent(nn.utils.weight_norm),
    "nested tensors": ReadsNestedTensors,
}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("make", CORRECT.values(), ids=CORRECT)
def test_a_correct_module_gets_no_message(make):
    module = make()
    check_module(module, **inputs_of(module)).backward()


def test_parameters_may_be_passed_as_a_keyword_argument():
    params = [torch.zeros(SIZE, 1, requires_grad=True)]
    module = module_with(lambda self, *, batch, params, **kwargs: (batch["obs"] @ params[0]).mean())
    check(module, batch=transitions(), params=params)


MEMORY_OF_A_CHECK = """
import resource, sys, torch
from frameworks.predictor import Predictor, inputs_of
from self_supervised_loss.testing import check_module

module = Predictor()
check_module(module, **inputs_of(module))
assert "sympy" not in sys.modules, "importing it takes up to a second"

layers = [torch.nn.Linear(*sizes) for sizes in ((4, 5000), (5000, 5000), (5000, 4))]
module = Predictor(net=torch.nn.Sequential(*layers))
size = sum(p.nbytes for p in module.parameters())
buffer = torch.zeros(size // 16, 4)
batch = {"obs": buffer[:8], "new_obs": buffer[8:16]}
fwd_out = module(batch)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
check_module(module, batch=batch, fwd_out=fwd_out)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / size)
"""


def test_a_check_costs_as_much_memory_as_the_gradients():
    """Slices cost no more than their size."""
    program = [sys.executable, "-W", "error", "-c", MEMORY_OF_A_CHECK]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(program, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1.3
