"""The share of dispatch and logging in a training step of `examples/ppo_curiosity.py`, with PPO's
loss and ICM's."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.interleave import Row, interleave
from examples.ppo_curiosity import (
    Config,
    Policy,
    PPOLearner,
    collect_rollout,
    estimate_advantages,
    make_envs,
)
from modules.icm import ICM

LOSS = torch.zeros((), requires_grad=True) * 1  # has a graph, as a loss does


class FreeICM(ICM):
    """An ICM whose loss takes next to no time, so that dispatch and logging are left."""

    def compute_self_supervised_loss(
        self, *, learner: Any, module_id: str, **kwargs: Any
    ) -> torch.Tensor:
        """Logs what an ICM logs."""
        learner.metrics.log_dict({"forward_loss": LOSS, "inverse_loss": LOSS}, key=module_id)
        return LOSS


class FreePPOLearner(PPOLearner):
    """A learner whose loss takes next to no time, so that dispatch and logging are left."""

    def compute_loss_for_module(self, *, module_id: str, **kwargs: Any) -> torch.Tensor:
        """Logs what PPO logs."""
        self.metrics.log_dict(
            {"policy_loss": LOSS, "vf_loss": LOSS, "entropy": LOSS}, key=module_id
        )
        return LOSS


def measure() -> Iterator[Row]:
    """Measures a step of 256 transitions, and what is left of it where the losses take next to no
    time."""
    config = Config()
    envs = make_envs(config)
    policy, icm = Policy(64, 4), ICM(64, 4)
    obs, _ = envs.reset(seed=0)
    _, rollout = collect_rollout(envs, obs, policy, config.rollout_length, deque())
    envs.close()
    rollout["advantages"] = estimate_advantages(
        rollout, rollout["rewards"], rollout["vf_preds"], config
    )
    rollout["value_targets"] = rollout["advantages"] + rollout["vf_preds"]
    minibatch = {column: values.flatten(0, 1)[:256].detach() for column, values in rollout.items()}

    modules = torch.nn.ModuleDict({"policy": policy, "icm": icm})
    learner = PPOLearner(module=modules, config=config)
    optimizer = torch.optim.Adam(modules.parameters(), eps=1e-5)

    def step() -> None:
        losses = learner.compute_losses(
            fwd_out={module_id: module(minibatch) for module_id, module in modules.items()},
            batch=dict.fromkeys(modules, minibatch),
        )
        optimizer.zero_grad()
        torch.autograd.backward([*losses.values()])
        optimizer.step()

    free_modules = torch.nn.ModuleDict({"policy": policy, "icm": FreeICM(64, 4)})
    free = FreePPOLearner(module=free_modules, config=config)
    data = dict.fromkeys(free_modules, minibatch)

    seconds = interleave(
        {"step": step, "free": lambda: free.compute_losses(fwd_out=data, batch=data)}
    )
    yield Row(
        "dispatch and logging in a step of ppo_curiosity.py",
        f"{seconds['free'] * 1e6:.1f} µs",
        "the whole step",
        f"{seconds['step'] * 1e3:.2f} ms",
        seconds["free"] / seconds["step"],
        "0.012",
    )
