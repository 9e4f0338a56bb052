"""A compiled training step: through a `Learner`, beside the same step with the losses called by
hand."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.interleave import Row, interleave
from modules.icm import ICM
from torch import nn
from torch.nn import functional as F

from self_supervised_loss import Learner


class CloningLearner(Learner[torch.Tensor]):
    """Trains a policy to repeat the actions that it is shown."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Compares the actions with those of the batch."""
        return F.cross_entropy(fwd_out["action_dist_inputs"], batch["actions"])


def measure() -> Iterator[Row]:
    """Compiles both with `fullgraph=True` by the default backend of `torch.compile`."""
    torch.manual_seed(0)
    policy, icm = nn.Linear(64, 4), ICM(64, 4)
    batch = {
        "obs": torch.randn(256, 64),
        "new_obs": torch.randn(256, 64),
        "actions": torch.randint(4, (256,)),
    }
    data = {"policy": batch, "icm": batch}

    def forward() -> dict[str, Any]:
        return {
            "policy": {"action_dist_inputs": policy(data["policy"]["obs"])},
            "icm": icm(data["icm"]),
        }

    learner = CloningLearner(module={"policy": policy, "icm": icm})

    def through_a_learner() -> dict[str, torch.Tensor]:
        return learner.compute_losses(fwd_out=forward(), batch=data)

    def by_hand() -> dict[str, torch.Tensor]:
        fwd_out = forward()
        return {
            "policy": learner.compute_loss_for_module(
                module_id="policy", config=None, batch=data["policy"], fwd_out=fwd_out["policy"]
            ),
            "icm": icm.compute_self_supervised_loss(
                learner=learner,
                module_id="icm",
                config=None,
                batch=data["icm"],
                fwd_out=fwd_out["icm"],
            ),
        }

    def step(compute_losses: Callable[[], dict[str, torch.Tensor]]) -> Callable[[], None]:
        compiled = torch.compile(compute_losses, fullgraph=True)
        optimizer = torch.optim.SGD([*policy.parameters(), *icm.parameters()], lr=0.0)

        def run() -> None:
            optimizer.zero_grad()
            torch.autograd.backward([*compiled().values()])
            optimizer.step()

        return run

    sides = {
        "by hand": step(by_hand),
        "ours": step(through_a_learner),
        "by hand, again": step(by_hand),
    }
    seconds = interleave(sides, rounds=500)
    milliseconds = {name: f"{value * 1e3:.3f} ms" for name, value in seconds.items()}
    for what, name in (
        ("a compiled training step", "ours"),
        ("its noise: by hand, again", "by hand, again"),
    ):
        ratio = seconds[name] / seconds["by hand"]
        yield Row(
            what, milliseconds[name], "by hand", milliseconds["by hand"], ratio, "1 but for noise"
        )
