"""Learner and logger under `torch.compile(fullgraph=True)`.

A graph break raises an error there, and so does the ninth graph of a function.
"""

import math
import random
from functools import partial

import omegaconf
import pytest
import torch
from frameworks.shared import (
    OBS_SIZE,
    SETTINGS,
    Policy,
    PolicyLearner,
    compute_losses,
    make_modules,
    reduced_in_every_way,
    transitions,
)
from torch import nn
from torch._dynamo.utils import counters

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI

one_graph = partial(torch.compile, fullgraph=True, backend="eager")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("reduces", "most_graphs"), [(False, 3), (True, 2)], ids=["metrics kept", "metrics reduced"]
)
def test_dispatch_and_every_kind_of_logging_are_one_graph(reduces, most_graphs):
    def step(learner, batch):
        losses = compute_losses(learner, batch, step=1)
        loss = losses["icm"]
        for setting in SETTINGS:
            values = {"vector": loss * batch["obs"], "half": loss.half(), "large": loss > 0.5}
            learner.metrics.log_dict(values, key=str(setting), **setting)
        return losses, learner.metrics.reduce() if reduces else {}

    learner, eager_learner = (PolicyLearner(module=make_modules()) for _ in range(2))
    compiled = one_graph(step)

    for _ in range(20):
        batch = transitions(8)
        torch.testing.assert_close(compiled(learner, batch), step(eager_learner, batch))

    torch.testing.assert_close(learner.metrics.reduce(), eager_learner.metrics.reduce())
    assert 0 < counters["stats"]["unique_graphs"] <= most_graphs


class LogsItsLoss(nn.Linear, SelfSupervisedLossAPI[torch.Tensor]):
    """Logs its loss with each of some settings of the logger."""

    def __init__(self, settings):
        super().__init__(OBS_SIZE, 1)
        self.settings = settings

    def compute_self_supervised_loss(self, *, learner, module_id, fwd_out, **kwargs):
        loss = fwd_out.square().mean()
        for setting in self.settings:
            learner.metrics.log_value((module_id, str(setting)), loss, **setting)
        return 1.0 * loss if module_id == "scaled" else loss  # Inductor folds the factor


def losses_of(learner, obs, names):
    fwd_out = {name: learner.module[name](obs) for name in names}
    return learner.compute_losses(fwd_out=fwd_out, batch=dict.fromkeys(names, obs))


def test_a_logged_loss_keeps_its_gradient():
    def step(learner, obs, reduce):
        losses = losses_of(learner, obs, ["as it is", "scaled"])
        return losses, learner.metrics.reduce() if reduce else None

    modules = {module_id: LogsItsLoss(SETTINGS) for module_id in ("as it is", "scaled")}
    learner, eager_learner = Learner(module=modules), Learner(module=modules)
    compiled = torch.compile(step, fullgraph=True)
    for number in range(6):
        arguments = torch.randn(8, OBS_SIZE), number % 3 == 2
        losses, metrics = compiled(learner, *arguments)
        expected, expected_metrics = step(eager_learner, *arguments)
        torch.testing.assert_close((losses, metrics), (expected, expected_metrics))
        for module_id, loss in losses.items():
            gradients, expected_gradients = (
                torch.autograd.grad(each, [*modules[module_id].parameters()], retain_graph=True)
                for each in (loss, expected[module_id])
            )
            torch.testing.assert_close(gradients, expected_gradients)


# Graphs after warm-up


def compiled_as_one(learner):
    return one_graph(losses_of, backend="aot_eager")


def compiled_separately(learner):
    for module in learner.module.values():
        module.compute_self_supervised_loss = one_graph(module.compute_self_supervised_loss)
    return losses_of


@pytest.mark.parametrize(
    ("compiled", "intervals", "most_graphs"),
    [
        (compiled_as_one, {"a": 1, "b": 1, "c": 1}, 3),  # the first one creates the keys
        (compiled_as_one, {"a": 1, "b": 3, "c": 5}, 5),
        (compiled_separately, {"a": 1, "b": 1, "c": 1}, 6),
    ],
)
def test_neither_other_keys_nor_nan_cause_a_new_graph(compiled, intervals, most_graphs):
    """Logs other keys to the same logger at random, before and after the steps."""
    settings = [setting for setting in SETTINGS if "window" not in setting] + [{}]
    learner = Learner(module={name: LogsItsLoss(settings) for name in intervals})
    take_step = compiled(learner)
    randomly = random.Random(0)
    for step in range(120):
        for when in ("before", "after"):
            if randomly.random() < 0.5:
                learner.metrics.log_value((when, f"key_{randomly.randrange(4)}"), step)
            if when == "before":
                names = [name for name, interval in intervals.items() if step % interval == 0]
                obs = torch.randn(4, OBS_SIZE)
                take_step(learner, obs * torch.nan if step % 11 == 10 else obs, names)
        if step % 7 == 6:
            learner.metrics.reduce()
    assert counters["stats"]["unique_graphs"] <= most_graphs


def test_a_nan_in_a_full_window_causes_no_new_graph():
    def log(metrics, x):
        metrics.log_value("recent", x, window=3)
        return x + 1

    metrics, compiled, graphs = MetricsLogger(), one_graph(log, backend="aot_eager"), []
    for value in (1.0, 1.0, 1.0, 1.0, 1.0, math.nan, 1.0, math.nan, math.nan, 1.0):
        compiled(metrics, torch.tensor(value))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[4]


def test_numbers_are_logged_without_recompiling():
    # Not where a running constant would be a new one each time: log a tensor there.
    sums = {"reduce": "mean"}, {"reduce": "sum"}
    settings = [setting for setting in SETTINGS if setting not in sums]

    def log(metrics, x):
        for setting in settings:
            metrics.log_dict({"float": 0.5, "int": 2, "bool": True}, key=str(setting), **setting)
        for reduce in ("min", "max", "sum", "item"):
            metrics.log_value(("batch_size", reduce), x.shape[0], reduce=reduce)
        return x + 1

    metrics, eager_metrics = MetricsLogger(), MetricsLogger()
    compiled = one_graph(log, backend="aot_eager")
    for batch_size in range(2, 22):
        compiled(metrics, torch.zeros(batch_size))
        log(eager_metrics, torch.zeros(batch_size))
    assert metrics.reduce() == eager_metrics.reduce()


@torch._dynamo.config.patch(specialize_float=False)
def test_a_number_that_dynamo_takes_for_a_variable_is_logged():
    def log(metrics, x, value):
        metrics.log_value("learning_rate", value)
        return x * value

    metrics = MetricsLogger()
    compiled = one_graph(log)
    for value in (0.5, 0.25, 0.75):
        compiled(metrics, torch.ones(()), value)
    assert metrics.reduce() == {"learning_rate": 0.5}


def test_one_key_can_be_logged_in_eager_mode_and_in_a_graph():
    def log(metrics, x):
        metrics.log_value("loss", x)
        metrics.log_value("recent", x, window=2)
        return x + 1

    metrics = MetricsLogger()
    compiled = one_graph(log)
    for value in range(20):
        (log if value in (0, 19) else compiled)(metrics, torch.tensor(float(value)))
    assert metrics.reduce() == {"loss": 9.5, "recent": 18.5}


# Errors


class Fails(Policy, SelfSupervisedLossAPI[torch.Tensor]):
    def compute_self_supervised_loss(self, *, fwd_out, config, **kwargs):
        if config == "KeyError":
            return fwd_out["typo"]
        if config == "RuntimeError":
            return fwd_out["logits"] @ torch.zeros(99)
        raise ValueError("out of order")


@pytest.mark.parametrize(
    ("config", "error", "line"),
    [
        ("ValueError", "raised exception ValueError('out of order')", "raise ValueError("),
        ("RuntimeError", "size mismatch", 'return fwd_out["logits"] @ torch.zeros(99)'),
        ("KeyError", "raised exception KeyError('typo')", ""),  # Dynamo 2.13 does not show its line
    ],
)
def test_the_error_of_a_loss_shows_in_a_graph(config, error, line):
    learner = Learner(module={"m": Fails()}, config=config)
    with pytest.raises(Exception) as raised:
        one_graph(compute_losses)(learner, transitions(8))
    assert error in str(raised.value)
    assert line in str(raised.value)
    assert "add_note" not in str(raised.value)


def test_without_fullgraph_an_error_is_the_one_of_eager_mode():
    learner = Learner(module={"m": Fails()}, config="KeyError")
    with pytest.raises(KeyError, match="typo") as raised:
        torch.compile(compute_losses, backend="eager")(learner, transitions(8))
    assert raised.value.__notes__ == ["while computing the loss of module 'm' (Fails)"]


class DuckTyped(Policy):
    def compute_self_supervised_loss(self, **kwargs):
        raise AssertionError("called")


def test_a_graph_has_no_warning_about_an_ignored_loss():
    learner = PolicyLearner(module={"m": DuckTyped()})
    assert one_graph(compute_losses)(learner, transitions(8)).keys() == {"m"}


def test_a_graph_can_pass_on_a_configuration_that_dynamo_cannot_read():
    config = omegaconf.OmegaConf.create({"lr": 0.1})
    learner, batch = PolicyLearner(module=make_modules(), config=config), transitions(8)
    assert one_graph(compute_losses)(learner, batch) == compute_losses(learner, batch)


# Other transformations, with the logger made inside


VALUES = torch.tensor([[1.0, 2.0], [4.0, 4.0], [2.0, 1.0]])


def test_values_are_reduced_in_tracing_as_in_eager_mode(monkeypatch):
    """Runs the lines that Dynamo traces, which Python never runs otherwise."""
    expected = reduced_in_every_way(VALUES)
    monkeypatch.setattr(torch.compiler, "is_dynamo_compiling", lambda: True)
    torch.testing.assert_close(reduced_in_every_way(VALUES), expected)


def exported(function, *, strict):
    program = nn.Module()
    program.forward = function
    return torch.export.export(program, (torch.zeros(3, 2),), strict=strict).module()


@pytest.mark.parametrize(
    "transform",
    [
        partial(torch.func.vmap, in_dims=1),
        partial(exported, strict=False),
        partial(exported, strict=True),
    ],
    ids=["vmap", "export", "strict export"],
)
def test_a_transformed_function_reduces_what_it_logs(transform):
    reduced = transform(reduced_in_every_way)(VALUES)
    torch.testing.assert_close(reduced, reduced_in_every_way(VALUES))
