"""A training step of PPO with an ICM: by our `Learner`, by hand, by RLlib and by Tianshou.

In a step, each draws a shuffled minibatch, runs networks of the same sizes, computes the same
losses, goes backward and steps one Adam per module. The learning rate is 0, so that all steps are
alike. Nothing is logged, except for the last row.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.interleave import Row, interleave
from benchmarks.other_frameworks import (
    BATCH_SIZE,
    CONFIG,
    NUM_ACTIONS,
    OBS_SIZE,
    make_modules,
    make_tianshou,
    parameters_of_rllib,
    parameters_of_tianshou,
    step_of_rllib,
    step_of_tianshou,
)
from examples.ppo_curiosity import PPOLearner
from modules.icm import ICM

from self_supervised_loss import MetricsLogger

Columns = dict[str, torch.Tensor]
Losses = Callable[[Columns], list[torch.Tensor]]
LOSS = torch.zeros((), requires_grad=True) * 1  # has a graph, as a loss does


class NoMetrics:
    """Logs nothing."""

    def log_dict(self, value_dict: dict[Any, Any], **kwargs: Any) -> None:
        """Does nothing."""


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
    """Compares whole steps, then compiled ones, then what logging takes with a whole step."""
    torch.manual_seed(0)
    batch = {
        "obs": torch.randn(BATCH_SIZE, OBS_SIZE),
        "new_obs": torch.randn(BATCH_SIZE, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (BATCH_SIZE,)),
        "action_logp": torch.full((BATCH_SIZE,), 1 / NUM_ACTIONS).log(),
        "advantages": torch.randn(BATCH_SIZE),
        "value_targets": torch.randn(BATCH_SIZE),
    }
    yield from _measure_steps(batch)
    yield from _measure_compiled_steps(batch)
    yield from _measure_dispatch_and_logging(batch)


def _measure_steps(batch: Columns) -> Iterator[Row]:
    modules, tianshou = make_modules(), make_tianshou()
    optimizers = _optimizers(modules)
    steps = {
        "ours": _step(optimizers, _losses_by_learner(modules, NoMetrics()), batch),
        "by hand": _step(optimizers, _losses_by_hand(modules), batch),
        "by hand, again": _step(optimizers, _losses_by_hand(modules), batch),
        "RLlib's": step_of_rllib(modules, lambda: _shuffled(batch), NoMetrics()),
        "Tianshou's": step_of_tianshou(tianshou, batch),
    }
    _check_gradients(steps, modules, tianshou)
    seconds = interleave(steps, rounds=300)
    yield from _beside_by_hand("a training step", seconds)
    for other in "RLlib's", "Tianshou's":
        yield Row("a training step", seconds["ours"], other, seconds[other], "ms", "1")


def _check_gradients(steps: dict[str, Callable[[], Any]], modules: Any, tianshou: Any) -> None:
    """Takes a step of each with the same weights, and compares their gradients."""
    parameters, its_parameters = parameters_of_rllib(modules), parameters_of_tianshou(tianshou)
    for its_parameter, parameter in zip(its_parameters, parameters, strict=True):
        its_parameter.data.copy_(parameter)
    steps["by hand"]()
    expected = [parameter.grad for parameter in parameters]
    for name, step in steps.items():
        step()
        own = its_parameters if name == "Tianshou's" else parameters
        torch.testing.assert_close(
            [parameter.grad for parameter in own], expected, rtol=1e-4, atol=1e-7
        )


def _measure_compiled_steps(batch: Columns) -> Iterator[Row]:
    modules = make_modules()
    optimizers = _optimizers(modules)
    by_hand = torch.compile(_losses_by_hand(modules), fullgraph=True)
    ours = torch.compile(_losses_by_learner(modules, NoMetrics()), fullgraph=True)
    steps = {
        "ours": _step(optimizers, ours, batch),
        "by hand": _step(optimizers, by_hand, batch),
        "by hand, again": _step(optimizers, by_hand, batch),
    }
    yield from _beside_by_hand("a compiled training step", interleave(steps, rounds=300))


def _beside_by_hand(what: str, seconds: dict[str, float]) -> Iterator[Row]:
    by_hand, again = seconds["by hand"], seconds["by hand, again"]
    yield Row(what, seconds["ours"], "by hand", by_hand, "ms", "1.01")
    yield Row(f"noise of {what}: by hand, again", again, "by hand", by_hand, "ms")


def _measure_dispatch_and_logging(batch: Columns) -> Iterator[Row]:
    modules = make_modules()
    optimizers = _optimizers(modules)
    free = FreePPOLearner(module={"policy": None, "icm": FreeICM(OBS_SIZE, NUM_ACTIONS)})
    data = dict.fromkeys(free.module, batch)
    seconds = interleave(
        {
            "ours": lambda: free.compute_losses(fwd_out=data, batch=data),
            "the whole step": _step(
                optimizers, _losses_by_learner(modules, MetricsLogger()), batch
            ),
        }
    )
    yield Row(
        "dispatch and logging in a training step",
        seconds["ours"],
        "the whole step",
        seconds["the whole step"],
        "µs",
        "0.012",
    )


def _losses_by_hand(modules: Any) -> Losses:
    policy, icm = modules["policy"], modules["icm"]
    ppo = PPOLearner(module={}, config=CONFIG, metrics=NoMetrics())

    def compute_losses(batch: Columns) -> list[torch.Tensor]:
        policy_out, icm_out = policy.forward_train(batch), icm.forward_train(batch)
        loss = ppo.compute_loss_for_module(
            module_id="policy", config=CONFIG, batch=batch, fwd_out=policy_out
        )
        icm_loss = icm.compute_self_supervised_loss(
            learner=ppo, module_id="icm", config=CONFIG, batch=batch, fwd_out=icm_out
        )
        return [loss, icm_loss]

    return compute_losses


def _losses_by_learner(modules: Any, metrics: Any) -> Losses:
    learner = PPOLearner(module=modules, config=CONFIG, metrics=metrics)

    def compute_losses(batch: Columns) -> list[torch.Tensor]:
        fwd_out = {module_id: module.forward_train(batch) for module_id, module in modules.items()}
        losses = learner.compute_losses(fwd_out=fwd_out, batch=dict.fromkeys(fwd_out, batch))
        return [*losses.values()]

    return compute_losses


def _optimizers(modules: Any) -> list[torch.optim.Optimizer]:
    # One set for all steps on these modules, so that only the losses of the steps differ.
    return [torch.optim.Adam(module.parameters(), lr=0.0) for module in modules.values()]


def _step(
    optimizers: list[torch.optim.Optimizer], compute_losses: Losses, batch: Columns
) -> Callable[[], None]:
    def step() -> None:
        losses = compute_losses(_shuffled(batch))
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(losses)
        for optimizer in optimizers:
            optimizer.step()

    return step


def _shuffled(batch: Columns) -> Columns:
    indices = torch.randperm(BATCH_SIZE)
    return {column: values[indices] for column, values in batch.items()}
