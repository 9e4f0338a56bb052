"""Times `compute_losses` per module, compared with RLlib's `Learner.compute_losses` and with direct
calls. The loss methods take almost no time."""

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


CASES = (  # the numbers of modules, their two classes in turns, and the wrapper
    ("own losses", (1, 10), (ICM, WorldModel), None),
    ("own and fallback", (2, 10), (ICM, Policy), None),
    ("fallbacks", (1, 10), (Policy, Critic), None),
    ("own losses, in DDP", (1, 10), (ICM, WorldModel), TorchDDPRLModule),
)


def measure() -> Iterator[Row]:
    """Compares them on the same modules, in one dict, with the same configuration."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        for kind, sizes, classes, wrap in CASES:
            for size in sizes:
                modules = {f"m{i}": make() for i, make in enumerate(islice(cycle(classes), size))}
                wrapped = {i: wrap(module) for i, module in modules.items()} if wrap else modules
                yield from compare(f"dispatch of {kind}, {size}", modules, wrapped)
    finally:
        distributed.destroy_process_group()


def compare(measured: str, modules: dict[str, Any], wrapped: dict[str, Any]) -> Iterator[Row]:
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
    yield Row(measured, each["ours"], "RLlib's", each["RLlib's"], "ns")
    yield Row(measured, each["ours"], "direct calls", each["direct calls"], "ns")
    yield Row(f"{measured}, with timestep=", each["with timestep="], "without", each["ours"], "ns")


def direct_calls(modules: dict[str, Any], learner: OurLearner) -> Callable[[], dict[str, Any]]:
    """Returns the code that a user would write by hand, for modules without wrappers."""
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
