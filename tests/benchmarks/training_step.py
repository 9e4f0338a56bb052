"""The share of dispatch in a training step: that of `examples/ppo_curiosity.py`, with PPO's loss and the ICM's."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.interleave import Row, interleave
from examples.ppo_curiosity import Config, Policy, PPOLearner, collect_rollout, estimate_advantages, make_envs
from modules.icm import ICM

LOSS = torch.zeros(())


class FreeICM(ICM):
    """An ICM whose loss takes next to no time, so that only dispatch is left."""

    def compute_self_supervised_loss(self, **kwargs: Any) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS


class FreePPOLearner(PPOLearner):
    """A learner whose loss takes next to no time, so that only dispatch is left."""

    def compute_loss_for_module(self, **kwargs: Any) -> torch.Tensor:
        """Takes next to no time."""
        return LOSS


def measure() -> Iterator[Row]:
    """Measures a step of 256 transitions, and dispatch alone less the two calls that it dispatches."""
    config = Config()
    envs = make_envs(config)
    policy, icm = Policy(64, 4), ICM(64, 4)
    obs, _ = envs.reset(seed=0)
    _, rollout = collect_rollout(envs, obs, policy, config.rollout_length, deque())
    envs.close()
    rollout["advantages"] = estimate_advantages(rollout, rollout["rewards"], rollout["vf_preds"], config)
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
        torch.stack([*losses.values()]).sum().backward()
        optimizer.step()

    free_icm = FreeICM(64, 4)
    free_modules = torch.nn.ModuleDict({"policy": policy, "icm": free_icm})
    free = FreePPOLearner(module=free_modules, config=config)
    data = dict.fromkeys(free_modules, minibatch)

    def call_directly() -> dict[str, torch.Tensor]:
        arguments = {"config": config, "batch": minibatch, "fwd_out": minibatch}
        return {
            "policy": free.compute_loss_for_module(module_id="policy", **arguments),
            "icm": free_icm.compute_self_supervised_loss(learner=free, module_id="icm", **arguments),
        }

    seconds = interleave(
        {"step": step, "dispatch": lambda: free.compute_losses(fwd_out=data, batch=data), "direct": call_directly}
    )
    dispatch = seconds["dispatch"] - seconds["direct"]
    yield Row(
        "dispatch in a training step of ppo_curiosity.py",
        f"{dispatch * 1e6:.1f} µs",
        "the whole step",
        f"{seconds['step'] * 1e3:.2f} ms",
        dispatch / seconds["step"],
        "0.005",
    )
