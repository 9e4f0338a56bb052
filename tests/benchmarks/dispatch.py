"""What `compute_losses` takes for each module, beside RLlib's `Learner.compute_losses` and beside
direct calls."""

from collections.abc import Iterator
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
SIZES = 1, 2, 10, 100


class Policy(TorchRLModule):
    """A module without a loss of its own."""

    def setup(self) -> None:
        """Makes a parameter, since a module without any cannot be wrapped."""
        self.parameter = nn.Parameter(torch.zeros(()))


class Critic(Policy):
    """Another one."""


class ICM(Policy, SelfSupervisedLossAPI[torch.Tensor]):
    """A module with a loss of its own."""

    def compute_self_supervised_loss(
        self, *, learner: Any, module_id: str, config: Any, batch: Any, fwd_out: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS


class WorldModel(ICM):
    """Another one."""


class OurLearner(Learner[torch.Tensor]):
    """Ours."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Any, fwd_out: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS


class RLlibLearner(PPOTorchLearner):
    """RLlib's."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Any, fwd_out: Any
    ) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS

    def configure_optimizers_for_module(self, *args: Any, **kwargs: Any) -> None:
        """Makes none, since nothing is trained."""


def measure() -> Iterator[Row]:
    """Compares them on the same modules, of two classes by turns, in one dict, with the same
    configuration."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        for kind, module_classes, wrap, goal in (
            ("own losses", (ICM, WorldModel), None, "1.0"),
            ("own and fallback", (ICM, Policy), None, "1.05"),
            ("fallbacks", (Policy, Critic), None, "1.25"),
            ("own losses, in DDP", (ICM, WorldModel), TorchDDPRLModule, "1.35"),
        ):
            modules = {
                f"m{i}": make() for i, make in enumerate(islice(cycle(module_classes), max(SIZES)))
            }
            yield from _compare(
                kind, modules, {i: wrap(m) if wrap else m for i, m in modules.items()}, goal
            )
    finally:
        distributed.destroy_process_group()


def _compare(
    kind: str, modules: dict[str, Any], wrapped: dict[str, Any], goal: str
) -> Iterator[Row]:
    config = PPOConfig()
    ours = OurLearner(module=wrapped, config=config)
    rllib = RLlibLearner(config=config, module=MultiRLModule())
    rllib.build()
    rllib._module = wrapped  # its own container is slower than a dict
    for size in SIZES:
        data: dict[str, dict[str, Any]] = {module_id: {} for module_id in [*modules][:size]}
        direct = [
            (module_id, modules[module_id], isinstance(modules[module_id], ICM))
            for module_id in data
        ]
        seconds = interleave(
            {
                "ours": lambda data=data: ours.compute_losses(fwd_out=data, batch=data),
                "RLlib's": lambda data=data: rllib.compute_losses(fwd_out=data, batch=data),
                "direct calls": lambda direct=direct: {
                    module_id: module.compute_self_supervised_loss(
                        learner=ours, module_id=module_id, config=config, batch={}, fwd_out={}
                    )
                    if own
                    else ours.compute_loss_for_module(
                        module_id=module_id, config=config, batch={}, fwd_out={}
                    )
                    for module_id, module, own in direct
                },
            },
            rounds=300,
        )
        nanoseconds = {name: f"{value / size * 1e9:,.0f} ns" for name, value in seconds.items()}
        what = f"dispatch of {kind}, {size:,}"
        for other, to_reach in (("RLlib's", goal), ("direct calls", "")):
            yield Row(
                what,
                nanoseconds["ours"],
                other,
                nanoseconds[other],
                seconds["ours"] / seconds[other],
                to_reach,
            )
