"""What `compute_losses` takes for each module, beside direct calls and beside RLlib's `Learner.compute_losses`."""

from collections.abc import Iterator
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
SIZES = 1, 2, 10, 100, 1_000, 10_000


class Module(TorchRLModule):
    """A module without a loss."""

    def setup(self) -> None:
        """Makes a parameter, since a module without any cannot be wrapped."""
        self.parameter = nn.Parameter(torch.zeros(()))


class ModuleWithLoss(Module, SelfSupervisedLossAPI[torch.Tensor]):
    """A module that brings its loss."""

    def compute_self_supervised_loss(
        self, *, learner: Any, module_id: str, config: Any, batch: Any, fwd_out: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS


class OurLearner(Learner[torch.Tensor]):
    """Ours."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Any, fwd_out: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS


class RLlibLearner(PPOTorchLearner):
    """RLlib's."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS

    def configure_optimizers_for_module(self, *args: Any, **kwargs: Any) -> None:
        """Makes none, since nothing is trained."""


def measure() -> Iterator[Row]:
    """Compares the three on the same modules and the same configuration."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        for kind, module_class, wrap in (
            ("own losses", ModuleWithLoss, None),
            ("fallbacks", Module, None),
            ("own losses, in DDP", ModuleWithLoss, TorchDDPRLModule),
        ):
            modules = {f"m{i}": module_class() for i in range(max(SIZES))}
            yield from _compare(kind, modules, {i: wrap(m) for i, m in modules.items()} if wrap else modules)
    finally:
        distributed.destroy_process_group()


def _compare(kind: str, modules: dict[str, Any], wrapped: dict[str, Any]) -> Iterator[Row]:
    config = PPOConfig()
    multi_rl_module = MultiRLModule()
    for module_id, module in wrapped.items():
        multi_rl_module.add_module(module_id, module)
    ours = OurLearner(module=multi_rl_module, config=config)
    rllib = RLlibLearner(config=config, module=multi_rl_module)
    rllib.build()
    per_module: dict[int, float] = {}
    for size in SIZES:
        data = {module_id: {} for module_id in [*modules][:size]}

        def call_modules(data: dict[str, Any] = data) -> dict[str, Any]:
            return {
                module_id: modules[module_id].compute_self_supervised_loss(
                    learner=ours, module_id=module_id, config=config, batch=batch, fwd_out=batch
                )
                for module_id, batch in data.items()
            }

        def call_learner(data: dict[str, Any] = data) -> dict[str, Any]:
            return {
                module_id: ours.compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=batch)
                for module_id, batch in data.items()
            }

        seconds = interleave(
            {
                "ours": lambda data=data: ours.compute_losses(fwd_out=data, batch=data),
                "RLlib's": lambda data=data: rllib.compute_losses(fwd_out=data, batch=data),
                "direct calls": call_learner if kind == "fallbacks" else call_modules,
            },
            rounds=30 if size > 1_000 else 300,
        )
        nanoseconds = {name: f"{value / size * 1e9:,.0f} ns" for name, value in seconds.items()}
        per_module[size] = seconds["ours"] / size
        what = f"dispatch of {kind}, {size:,}"
        goal = {"own losses": "0.65", "fallbacks": "1.0 to 1.3"}.get(kind, "")
        for other, to_reach in (("RLlib's", goal), ("direct calls", "")):
            ratio = seconds["ours"] / seconds[other]
            yield Row(what, nanoseconds["ours"], other, nanoseconds[other], ratio, to_reach)
    yield Row(
        f"dispatch of {kind}, 10,000",
        f"{per_module[10_000] * 1e9:,.0f} ns",
        "ours, 100",
        f"{per_module[100] * 1e9:,.0f} ns",
        per_module[10_000] / per_module[100],
        "1.3",
    )
