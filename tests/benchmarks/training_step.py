"""Times a training step of PPO with an ICM: with our `Learner`, by hand, in RLlib and in Tianshou.

Each step draws a shuffled minibatch, runs networks of the same sizes, computes the same losses and
their gradients, and steps one Adam per module. The learning rate is 0, so all steps are alike. Only
the rows that say so log values.
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

from self_supervised_loss import MetricsLogger, SelfSupervisedLossAPI

Columns = dict[str, torch.Tensor]
Losses = Callable[[Columns], list[torch.Tensor]]
LOSS = torch.zeros((), requires_grad=True) * 1  # has a graph like any loss

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


class FreeICM(SelfSupervisedLossAPI[torch.Tensor]):
    """Logs the values of an ICM. The loss takes almost no time, which leaves the rest."""

    def compute_self_supervised_loss(self, *, learner, module_id, **kwargs):
        learner.metrics.log_dict({"forward_loss": LOSS, "inverse_loss": LOSS}, key=module_id)
        return LOSS


class FreePPOLearner(PPOLearner):
    """Logs the values of PPO. The loss takes almost no time, which leaves the rest."""

    def compute_loss_for_module(self, *, module_id, **kwargs):
        self.metrics.log_dict(
            {"policy_loss": LOSS, "vf_loss": LOSS, "entropy": LOSS}, key=module_id
        )
        return LOSS


def measure() -> Iterator[Row]:
    yield from measure_steps()
    yield from measure_compiled_steps()
    yield from measure_dispatch_and_logging()


def measure_steps() -> Iterator[Row]:
    modules, tianshou = make_modules(), make_tianshou()
    optimizers = make_optimizers(modules)
    steps = {
        "ours": step_of(optimizers, losses_by_learner(modules, NoMetrics())),
        "by hand": step_of(optimizers, losses_by_hand(modules)),
        "by hand, again": step_of(optimizers, losses_by_hand(modules)),
        "RLlib's": step_of_rllib(modules, draw_minibatch, NoMetrics()),
        "Tianshou's": step_of_tianshou(tianshou, BATCH),
    }
    check_gradients(steps, modules, tianshou)
    seconds = interleave(steps, rounds=300)
    yield from compared_with_by_hand("a training step", seconds)
    for other in "RLlib's", "Tianshou's":
        yield Row("a training step", seconds["ours"], other, seconds[other], "ms", "1")


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


def measure_compiled_steps() -> Iterator[Row]:
    modules = make_modules()
    optimizers = make_optimizers(modules)
    by_hand = torch.compile(losses_by_hand(modules), fullgraph=True)
    ours = torch.compile(losses_by_learner(modules, NoMetrics()), fullgraph=True)
    values_by_hand = torch.compile(losses_and_values_by_hand(modules), fullgraph=True)
    logging = torch.compile(losses_by_learner(modules, MetricsLogger()), fullgraph=True)
    steps = {
        "ours": step_of(optimizers, ours),
        "by hand": step_of(optimizers, by_hand),
        "by hand, again": step_of(optimizers, by_hand),
        "ours, logging": step_of(optimizers, logging),
        "by hand, with five values": step_of(optimizers, lambda batch: values_by_hand(batch)[0]),
    }
    seconds = interleave(steps, rounds=300)
    yield from compared_with_by_hand("a compiled training step", seconds)
    measured = "a compiled training step that logs five values"
    other = "by hand, with five values"
    yield Row(measured, seconds["ours, logging"], other, seconds[other], "ms", "1.05")


def compared_with_by_hand(measured: str, seconds: dict[str, float]) -> Iterator[Row]:
    by_hand, again = seconds["by hand"], seconds["by hand, again"]
    yield Row(measured, seconds["ours"], "by hand", by_hand, "ms", "1.01")
    yield Row(f"noise of {measured}: by hand, again", again, "by hand", by_hand, "ms")


def measure_dispatch_and_logging() -> Iterator[Row]:
    modules = make_modules()
    optimizers = make_optimizers(modules)
    free = FreePPOLearner(module={"policy": None, "icm": FreeICM()})
    data = dict.fromkeys(free.module, BATCH)
    steps = {
        "ours": lambda: free.compute_losses(fwd_out=data, batch=data),
        "the whole step": step_of(optimizers, losses_by_learner(modules, MetricsLogger())),
    }
    seconds = interleave(steps)
    measured, other = "dispatch and logging in a training step", "the whole step"
    yield Row(measured, seconds["ours"], other, seconds[other], "µs", "0.012")


def losses_by_hand(modules: Any) -> Losses:
    return lambda batch: compute_by_hand(modules, batch, NoMetrics())


def losses_and_values_by_hand(modules: Any) -> Callable[[Columns], Any]:
    def compute_losses(batch: Columns) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        metrics = Collected()
        return compute_by_hand(modules, batch, metrics), metrics.values

    return compute_losses


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


def make_optimizers(modules: Any) -> list[torch.optim.Optimizer]:
    # One set for all steps on these modules, so only the losses differ.
    return [torch.optim.Adam(module.parameters(), lr=0.0) for module in modules.values()]


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
