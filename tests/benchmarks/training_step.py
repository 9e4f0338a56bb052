"""Times a training step of PPO with an ICM: with our `Learner`, by hand, in RLlib and in Tianshou.

Each step draws a shuffled minibatch, runs networks of the same sizes, computes the same losses and
their gradients, and steps one Adam per module. The learning rate is 0, so all steps are alike. Only
the rows that say so log values.
"""

import functools
import logging
import multiprocessing
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

from self_supervised_loss import MetricsLogger

Columns = dict[str, torch.Tensor]
Losses = Callable[[Columns], list[torch.Tensor]]
NUM_PROCESSES = 5

torch.set_num_threads(1)  # CPU time would count how long further threads wait
torch.manual_seed(0)
BATCH = {
    "obs": torch.randn(BATCH_SIZE, OBS_SIZE),
    "new_obs": torch.randn(BATCH_SIZE, OBS_SIZE),
    "actions": torch.randint(NUM_ACTIONS, (BATCH_SIZE,)),
    "action_logp": torch.full((BATCH_SIZE,), 1 / NUM_ACTIONS).log(),
    "advantages": torch.randn(BATCH_SIZE),
    "value_targets": torch.randn(BATCH_SIZE),
}


class NoMetrics:
    def log_dict(self, value_dict, **kwargs): ...


class Collected:
    """Collects values to return, like a hand-written step."""

    def __init__(self):
        self.values = []

    def log_dict(self, value_dict, **kwargs):
        self.values += [value.detach() for value in value_dict.values()]


def measure() -> Iterator[Row]:
    """Yields the row with the median ratio of several processes.

    Where the objects of a process lie in memory makes one step up to 1 % faster than another.
    """
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, logging.disable, (logging.WARNING,), maxtasksperchild=1) as pool:
        runs = [pool.apply(measure_once) for _ in range(NUM_PROCESSES)]
    for rows in zip(*runs, strict=True):
        yield sorted(rows, key=lambda row: row.ours / row.theirs)[NUM_PROCESSES // 2]


def measure_once() -> list[Row]:
    return [*measure_steps(), *measure_compiled_steps()]


def measure_steps() -> Iterator[Row]:
    modules, tianshou = make_modules(), make_tianshou()
    steps = our_steps_and_by_hand(modules) | {
        "RLlib's": step_of_rllib(modules, draw_minibatch, NoMetrics()),
        "Tianshou's": step_of_tianshou(tianshou, BATCH),
    }
    check_gradients(steps, modules, tianshou)
    seconds = interleave(steps, rounds=200)
    yield from compared_with_by_hand("a training step", seconds)
    for other in "RLlib's", "Tianshou's":
        yield Row("a training step", seconds["ours"], other, seconds[other], "ms", "1")


def measure_compiled_steps() -> Iterator[Row]:
    steps = our_steps_and_by_hand(make_modules(), functools.partial(torch.compile, fullgraph=True))
    yield from compared_with_by_hand("a compiled training step", interleave(steps, rounds=200))


def our_steps_and_by_hand(
    modules: Any, compiled: Callable[[Any], Any] = lambda function: function
) -> dict[str, Callable[[], None]]:
    # One set of optimizers for all steps, so only the losses differ.
    optimizers = [torch.optim.Adam(module.parameters(), lr=0.0) for module in modules.values()]
    by_hand = compiled(losses_by_hand(modules))
    with_values = compiled(losses_and_values_by_hand(modules))
    return {
        "ours": step_of(optimizers, compiled(losses_by_learner(modules, NoMetrics()))),
        "by hand": step_of(optimizers, by_hand),
        "by hand, again": step_of(optimizers, by_hand),
        "ours, logging": step_of(optimizers, compiled(losses_by_learner(modules, MetricsLogger()))),
        "by hand, with five values": step_of(optimizers, lambda batch: with_values(batch)[0]),
    }


def compared_with_by_hand(measured: str, seconds: dict[str, float]) -> Iterator[Row]:
    by_hand, again = seconds["by hand"], seconds["by hand, again"]
    yield Row(measured, seconds["ours"], "by hand", by_hand, "ms", "1.01")
    yield Row(f"noise of {measured}: by hand, again", again, "by hand", by_hand, "ms")
    measured, other = f"{measured} that logs five values", "by hand, with five values"
    yield Row(measured, seconds["ours, logging"], other, seconds[other], "ms", "1.05")


def check_gradients(steps: dict[str, Callable[[], Any]], modules: Any, tianshou: Any) -> None:
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


def losses_by_hand(modules: Any) -> Losses:
    return lambda batch: compute_by_hand(modules, batch, NoMetrics())


def losses_and_values_by_hand(modules: Any) -> Callable[[Columns], Any]:
    def losses_and_values(batch: Columns) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        metrics = Collected()
        return compute_by_hand(modules, batch, metrics), metrics.values

    return losses_and_values


def compute_by_hand(modules: Any, batch: Columns, metrics: Any) -> list[torch.Tensor]:
    policy, icm = modules["policy"], modules["icm"]
    ppo = PPOLearner(module={}, config=CONFIG, metrics=metrics)
    policy_out, icm_out = policy.forward_train(batch), icm.forward_train(batch)
    loss = ppo.compute_loss_for_module(
        module_id="policy", config=CONFIG, batch=batch, fwd_out=policy_out
    )
    icm_loss = icm.compute_self_supervised_loss(
        learner=ppo, module_id="icm", config=CONFIG, batch=batch, fwd_out=icm_out
    )
    return [loss, icm_loss]


def losses_by_learner(modules: Any, metrics: Any) -> Losses:
    learner = PPOLearner(module=modules, config=CONFIG, metrics=metrics)

    def compute_losses(batch: Columns) -> list[torch.Tensor]:
        fwd_out = {module_id: module.forward_train(batch) for module_id, module in modules.items()}
        losses = learner.compute_losses(fwd_out=fwd_out, batch=dict.fromkeys(fwd_out, batch))
        return [*losses.values()]

    return compute_losses


def step_of(optimizers: list[torch.optim.Optimizer], compute_losses: Losses) -> Callable[[], None]:
    def step() -> None:
        losses = compute_losses(draw_minibatch())
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(losses)
        for optimizer in optimizers:
            optimizer.step()

    return step


def draw_minibatch() -> Columns:
    indices = torch.randperm(BATCH_SIZE)
    return {column: values[indices] for column, values in BATCH.items()}
