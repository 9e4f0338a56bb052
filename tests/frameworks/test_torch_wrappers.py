"""A module is trained through the wrappers of torch and Fabric as if it stood alone."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning_fabric
import pytest
import torch
from lightning.fabric import Fabric
from modules.icm import ICM
from tensordict.nn import TensorDictModule
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    checkpoint_wrapper,
    offload_wrapper,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from self_supervised_loss import Learner

OBS_SIZE, NUM_ACTIONS = 4, 3


class Unwrappable(nn.Module):
    """A wrapper of one's own, with the method that RLlib's have."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: dict[str, torch.Tensor]) -> Any:
        return self.inner(batch)

    def unwrapped(self) -> nn.Module:
        return self.inner


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


def compiled_in_place(module: nn.Module) -> nn.Module:
    module.compile(backend="eager")
    return module


def sharded(module: nn.Module) -> nn.Module:
    return fully_shard(module, mesh=init_device_mesh("cpu", (1,)))


def first_fsdp(module: nn.Module) -> nn.Module:
    unsharded = ShardingStrategy.NO_SHARD  # there is but one process
    return FullyShardedDataParallel(
        module, sharding_strategy=unsharded, device_id=torch.device("cpu"), use_orig_params=True
    )


def fabric(module: nn.Module) -> Any:
    return Fabric(accelerator="cpu", devices=1).setup(module)


def fabric_of_its_own_package(module: nn.Module) -> Any:
    return lightning_fabric.Fabric(accelerator="cpu", devices=1).setup(module)


def fabric_with_optimizer(module: nn.Module) -> Any:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    return Fabric(accelerator="cpu", devices=1).setup(module, optimizer)[0]


DDP = DistributedDataParallel

WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "torch.compile": compiled,
    "module.compile": compiled_in_place,
    "DDP": DDP,
    "DataParallel": DataParallel,
    "FullyShardedDataParallel": first_fsdp,
    "fully_shard": sharded,
    "AveragedModel": AveragedModel,
    "checkpoint_wrapper": checkpoint_wrapper,
    "offload_wrapper": offload_wrapper,
    "Fabric": fabric,
    "Fabric of lightning_fabric": fabric_of_its_own_package,
    "Fabric with an optimizer": fabric_with_optimizer,
    "a wrapper of one's own": Unwrappable,
    "DDP around torch.compile": lambda module: DDP(compiled(module)),
    "torch.compile around DDP": lambda module: compiled(DDP(module)),
    "DDP around checkpoint_wrapper": lambda module: DDP(checkpoint_wrapper(module)),
    "Fabric around torch.compile": lambda module: fabric(compiled(module)),
    "torch.compile around Fabric": lambda module: compiled(fabric(module)),
    "DDP around one's own": lambda module: DDP(Unwrappable(module)),
    "one's own between two of torch": lambda module: compiled(Unwrappable(compiled(module))),
}

each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


class Policy(nn.Module):
    """Brings no loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(OBS_SIZE, NUM_ACTIONS)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.net(batch["obs"])}


class PolicyLearner(Learner[torch.Tensor]):
    def compute_loss_for_module(
        self, *, batch: dict[str, Any], fwd_out: dict[str, torch.Tensor], **kwargs: Any
    ) -> torch.Tensor:
        return nn.functional.cross_entropy(fwd_out["logits"], batch["actions"])


def make_icm() -> ICM:
    torch.manual_seed(0)
    return ICM(OBS_SIZE, NUM_ACTIONS)


def make_policy() -> Policy:
    torch.manual_seed(0)
    return Policy()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "obs": torch.randn(16, OBS_SIZE),
        "new_obs": torch.randn(16, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (16,)),
    }


def compute_loss(learner: Learner, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Computes the loss of the module as it stands in the learner, wrapped or not."""
    fwd_out = {"module": learner.module["module"](batch)}
    return learner.compute_losses(fwd_out=fwd_out, batch={"module": batch})["module"]


def loss_and_gradients(learner: Learner, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    loss = compute_loss(learner, batch)
    loss.backward()
    gradients = [parameter.grad for parameter in learner.module["module"].parameters()]
    assert all(gradient.any() for gradient in gradients)
    return [
        loss,
        *(
            gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
            for gradient in gradients
        ),
    ]


@each_wrapper
@pytest.mark.parametrize("make_module", [make_icm, make_policy])
def test_a_wrapped_module_has_the_loss_and_the_gradients_that_it_has_alone(
    make_module: Callable[[], nn.Module],
    wrap: Callable[[nn.Module], Any],
    batch: dict[str, torch.Tensor],
) -> None:
    wrapped = PolicyLearner(module={"module": wrap(make_module())})
    alone = PolicyLearner(module={"module": make_module()})

    torch.testing.assert_close(loss_and_gradients(wrapped, batch), loss_and_gradients(alone, batch))
    torch.testing.assert_close(wrapped.metrics.reduce(sep="/"), alone.metrics.reduce(sep="/"))


@each_wrapper
def test_the_class_that_lacks_a_loss_is_named_and_not_its_wrapper(
    wrap: Callable[[nn.Module], Any],
) -> None:
    learner = Learner[torch.Tensor](module={"module": wrap(make_policy())})

    with pytest.raises(NotImplementedError, match=r"module 'module' \(\w*Policy\)"):
        learner.compute_losses(fwd_out={"module": {}}, batch={"module": {}})


@each_wrapper
def test_wrappers_are_looked_through_inside_a_graph(
    wrap: Callable[[nn.Module], Any], batch: dict[str, torch.Tensor]
) -> None:
    learner = Learner(module={"module": wrap(make_icm())})
    with torch.no_grad():
        fwd_out = {"module": learner.module["module"](batch)}
    compute_losses = torch.compile(learner.compute_losses, fullgraph=True, backend="eager")

    losses = compute_losses(fwd_out=fwd_out, batch={"module": batch})
    assert losses == learner.compute_losses(fwd_out=fwd_out, batch={"module": batch})


@pytest.mark.parametrize(
    "wrap", [DistributedDataParallel, compiled, fabric], ids=["DDP", "torch.compile", "Fabric"]
)
def test_a_wrapper_around_all_modules_is_answered_with_wrap_each_module(
    wrap: Callable[[nn.Module], Any],
) -> None:
    with pytest.raises(
        TypeError, match="Wrap each module in it, not the ModuleDict of all modules"
    ):
        Learner[torch.Tensor](module=wrap(nn.ModuleDict({"icm": make_icm()})))


class Forwarding(nn.Module):
    """A wrapper that is not known, with the attributes of the module inside, as peft's are."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


@pytest.mark.parametrize(
    "wrap",
    [Forwarding, lambda module: TensorDictModule(module, in_keys=["obs"], out_keys=["logits"])],
    ids=["a wrapper of one's own", "TensorDictModule"],
)
def test_a_wrapper_that_is_not_known_is_warned_of(
    wrap: Callable[[nn.Module], Any], batch: dict[str, torch.Tensor]
) -> None:
    wrapper = wrap(make_icm())
    fwd_out = {"module": {"logits": torch.zeros(16, NUM_ACTIONS)}}
    with pytest.warns(UserWarning, match="is a wrapper that is not known: give the learner the"):
        PolicyLearner(module={"module": wrapper}).compute_losses(
            fwd_out=fwd_out, batch={"module": batch}
        )
