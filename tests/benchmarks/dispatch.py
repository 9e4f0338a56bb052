"""What `compute_losses` takes for each module, beside RLlib's `Learner.compute_losses` and beside
direct calls. The loss methods themselves take next to no time."""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

import torch
from benchmarks.interleave import Row, interleave
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module import MultiRLModule
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchDDPRLModule, TorchRLModule
from torch import distributed, nn

from self_supervised_loss import Learner, SelfSupervisedLossAPI

LOSS = torch.zeros(())


class Policy(TorchRLModule):
    def setup(self):
        self.parameter = nn.Parameter(torch.zeros(()))  # without any, it cannot be in DDP


class Critic(Policy): ...


class ICM(Policy, SelfSupervisedLossAPI[torch.Tensor]):
    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return LOSS


class WorldModel(ICM): ...


class OurLearner(Learner[torch.Tensor]):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out, **kwargs):
        return LOSS


class RLlibLearner(PPOTorchLearner):
    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return LOSS

    def configure_optimizers_for_module(self, *args, **kwargs): ...


CASES = (  # how many modules, of two classes by turns, and the goal of the ratio to RLlib's
    ("own losses", (1, 10), (ICM, WorldModel), None, "1.4"),
    ("own and fallback", (2, 10), (ICM, Policy), None, "1.7"),
    ("fallbacks", (1, 10), (Policy, Critic), None, "2.1"),
    ("own losses, in DDP", (1, 10), (ICM, WorldModel), TorchDDPRLModule, "1.55"),
)


def measure() -> Iterator[Row]:
    """Compares them on the same modules, in one dict, with the same configuration."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        for kind, sizes, classes, wrap, goal in CASES:
            for size in sizes:
                modules = {f"m{i}": make() for i, make in enumerate(islice(cycle(classes), size))}
                wrapped = {i: wrap(module) for i, module in modules.items()} if wrap else modules
                yield from compare(f"dispatch of {kind}, {size}", modules, wrapped, goal)
    finally:
        distributed.destroy_process_group()


def compare(
    what: str, modules: dict[str, Any], wrapped: dict[str, Any], goal: str
) -> Iterator[Row]:
    config = PPOConfig()
    ours = OurLearner(module=wrapped, config=config)
    rllib = RLlibLearner(config=config, module=MultiRLModule())
    rllib.build()
    rllib._module = wrapped  # its own container is slower than a dict
    data: dict[str, dict[str, Any]] = {module_id: {} for module_id in modules}
    seconds = interleave(
        {
            "ours": lambda: ours.compute_losses(fwd_out=data, batch=data),
            "RLlib's": lambda: rllib.compute_losses(fwd_out=data, batch=data),
            "direct calls": direct_calls(modules, ours),
            "with timestep=": lambda: ours.compute_losses(fwd_out=data, batch=data, timestep=1),
        },
    )
    each = {name: value / len(modules) for name, value in seconds.items()}
    yield Row(what, each["ours"], "RLlib's", each["RLlib's"], "ns", goal)
    yield Row(what, each["ours"], "direct calls", each["direct calls"], "ns")
    yield Row(f"{what}, with timestep=", each["with timestep="], "without", each["ours"], "ns")


def direct_calls(modules: dict[str, Any], learner: OurLearner) -> Callable[[], dict[str, Any]]:
    """Returns what would be written by hand, with modules that need not be unwrapped."""
    config = learner.config
    calls = [(module_id, module, isinstance(module, ICM)) for module_id, module in modules.items()]
    return lambda: {
        module_id: module.compute_self_supervised_loss(
            learner=learner, module_id=module_id, config=config, batch={}, fwd_out={}
        )
        if has_loss
        else learner.compute_loss_for_module(
            module_id=module_id, config=config, batch={}, fwd_out={}
        )
        for module_id, module, has_loss in calls
    }
