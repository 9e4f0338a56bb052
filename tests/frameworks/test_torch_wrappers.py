"""A module is trained through the wrappers of torch and Fabric as if it stood alone."""

import importlib
from functools import partial, wraps

import lightning_fabric
import pytest
import torch
from frameworks.shared import Policy, PolicyLearner, compute_losses, make_modules, transitions
from lightning.fabric import Fabric
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from self_supervised_loss._wrappers import _ATTRIBUTES
from self_supervised_loss.testing import check_module

pytestmark = pytest.mark.usefixtures("process_group")


class Unwrappable(nn.Sequential):
    """A user's wrapper, with RLlib's method `unwrapped`."""

    def unwrapped(self):
        return self[0]


def compiled(module):
    return torch.compile(module, backend="eager")


def compiled_in_place(module):
    module.compile(backend="eager")
    return module


def fabric(module, fabric_class=Fabric):
    return fabric_class(accelerator="cpu", devices=1).setup(module)


WRAPPERS = {
    "torch.compile": compiled,
    "module.compile": compiled_in_place,
    "DDP": DistributedDataParallel,
    "DataParallel": DataParallel,
    "FullyShardedDataParallel": partial(
        FullyShardedDataParallel, device_id=torch.device("cpu"), use_orig_params=True
    ),
    "fully_shard": lambda module: fully_shard(module, mesh=init_device_mesh("cpu", (1,))),
    "AveragedModel": AveragedModel,
    "checkpoint_wrapper": checkpoint_wrapper,
    "Fabric": fabric,
    "Fabric of lightning_fabric": partial(fabric, fabric_class=lightning_fabric.Fabric),
    "user's wrapper": Unwrappable,
    "torch.compile around DDP": lambda module: compiled(DistributedDataParallel(module)),
    "Fabric around torch.compile": lambda module: fabric(compiled(module)),
    "user's wrapper between two of torch": lambda module: compiled(Unwrappable(compiled(module))),
}

# Packages that the extra `dev` does not install. Their wrappers have tests in the folder `heavy`.
ONLY_IN_ALL = {"deepspeed"}

each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())


@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch._dynamo.reset()


BATCH = transitions(16)


def make_learner(wrap):
    return PolicyLearner(module={name: wrap(module) for name, module in make_modules().items()})


def gradients(module):
    return [
        parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad
        for parameter in module.parameters()
    ]


@each_wrapper
def test_a_wrapped_module_has_its_loss_and_gradients(wrap):
    wrapped, bare = make_learner(wrap), PolicyLearner(module=make_modules())

    losses, expected = compute_losses(wrapped, BATCH), compute_losses(bare, BATCH)
    for loss in (*losses.values(), *expected.values()):
        loss.backward()

    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(wrapped.metrics.reduce(), bare.metrics.reduce())
    for module_id in expected:
        of_wrapped, of_bare = (gradients(learner.module[module_id]) for learner in (wrapped, bare))
        assert all(gradient.any() for gradient in of_bare)
        torch.testing.assert_close(of_wrapped, of_bare)


@each_wrapper
def test_learners_look_through_wrappers_inside_a_graph(wrap):
    learner = make_learner(wrap)
    with torch.no_grad():
        fwd_out = {module_id: module(BATCH) for module_id, module in learner.module.items()}
    arguments = {"fwd_out": fwd_out, "batch": dict.fromkeys(fwd_out, BATCH)}
    compiled_dispatch = torch.compile(learner.compute_losses, fullgraph=True, backend="eager")

    assert compiled_dispatch(**arguments) == learner.compute_losses(**arguments)


@each_wrapper
def test_check_module_accepts_a_wrapped_module(wrap):
    module = wrap(make_modules()["icm"])
    check_module(module, batch=BATCH, fwd_out=module(BATCH)).backward()
    assert all(gradient is not None for gradient in gradients(module))


@pytest.mark.parametrize("path", [p for p in _ATTRIBUTES if p.split(".")[0] not in ONLY_IN_ALL])
def test_the_table_of_wrappers_names_a_class(path):
    module, _, name = path.rpartition(".")
    wrapper = getattr(importlib.import_module(module), name, None)
    assert wrapper is not None, f"_wrappers.py: {module} has no {name}"
    assert f"{wrapper.__module__}.{wrapper.__qualname__}" == path, "_wrappers.py: not the full name"


@pytest.mark.parametrize("wrap", [DistributedDataParallel, compiled, fabric])
def test_a_wrapper_around_all_modules_is_refused(wrap):
    with pytest.raises(TypeError, match="Wrap each module instead of the ModuleDict"):
        PolicyLearner(module=wrap(make_modules()))


def test_an_instance_of_a_plain_module_is_not_asked_for_a_loss_method(monkeypatch):
    original = nn.Module.__getattr__

    @wraps(original)
    def get_attribute(module, name):  # takes over a microsecond
        assert name != "compute_self_supervised_loss"
        return original(module, name)

    monkeypatch.setattr(nn.Module, "__getattr__", get_attribute)
    learner = PolicyLearner(module={"policy": Policy()})
    assert compute_losses(learner, BATCH).keys() == {"policy"}
