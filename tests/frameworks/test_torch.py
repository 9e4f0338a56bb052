"""Eager PyTorch: a training step, and what the logger does with tensors."""

import gc
import weakref
from typing import Any, get_args

import pytest
import torch
from modules.icm import ICM
from torch import nn

from self_supervised_loss import Learner, MetricsLogger
from self_supervised_loss.metrics import Reduce

OBS_SIZE, NUM_ACTIONS = 4, 3

each_reduce = pytest.mark.parametrize("reduce", get_args(Reduce))
each_setting = pytest.mark.parametrize(
    "setting",
    [{"reduce": reduce} for reduce in get_args(Reduce)]
    + [{"reduce": reduce, "window": 2} for reduce in get_args(Reduce) if reduce != "ema"],
    ids=str,
)


class PolicyLearner(Learner[torch.Tensor]):
    """Has the loss of a policy that brings none, an `nn.Linear` from observations to the logits of actions."""

    def compute_loss_for_module(self, *, batch: dict[str, Any], fwd_out: dict[str, Any], **kwargs: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(fwd_out["logits"], batch["actions"])


def transitions(batch_size: int) -> dict[str, torch.Tensor]:
    return {
        "obs": torch.randn(batch_size, OBS_SIZE),
        "new_obs": torch.randn(batch_size, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (batch_size,)),
    }


def compute_losses(learner: Learner, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    fwd_out = {"policy": {"logits": learner.module["policy"](batch["obs"])}, "icm": learner.module["icm"](batch)}
    return learner.compute_losses(fwd_out=fwd_out, batch={"policy": batch, "icm": batch})


@pytest.fixture
def modules() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"policy": nn.Linear(OBS_SIZE, NUM_ACTIONS), "icm": ICM(OBS_SIZE, NUM_ACTIONS)})


def test_the_gradients_are_those_of_the_losses_computed_by_hand(modules: nn.ModuleDict) -> None:
    policy, icm = modules["policy"], modules["icm"]
    batch = transitions(16)
    judged = icm(batch)
    by_hand = {
        "policy": nn.functional.cross_entropy(policy(batch["obs"]), batch["actions"]),
        "icm": 0.2 * judged["intrinsic_rewards"].mean()
        + 0.8 * nn.functional.cross_entropy(judged["action_logits"], batch["actions"]),
    }
    expected = torch.autograd.grad(sum(by_hand.values()), list(modules.parameters()))

    losses = compute_losses(PolicyLearner(module=modules), batch)
    sum(losses.values()).backward()

    assert list(losses) == ["policy", "icm"]
    for module_id, loss in losses.items():
        assert torch.equal(loss, by_hand[module_id])
    for parameter, gradient in zip(modules.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_a_policy_and_an_icm_train_side_by_side(modules: nn.ModuleDict) -> None:
    learner = PolicyLearner(module=modules)
    optimizer = torch.optim.Adam(modules.parameters(), lr=0.01)
    batch = transitions(64)
    history = []
    for _ in range(50):
        losses = compute_losses(learner, batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({module_id: loss.item() for module_id, loss in losses.items()})

    assert history[-1]["policy"] < history[0]["policy"]
    assert history[-1]["icm"] < history[0]["icm"] / 2
    assert learner.metrics.reduce().keys() == {"icm"}


@each_setting
def test_logging_a_loss_does_not_keep_its_graph(setting: dict[str, Any]) -> None:
    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor
            in_graph.add(self)

    in_graph: weakref.WeakSet[Saved] = weakref.WeakSet()
    metrics = MetricsLogger()
    weight = torch.ones(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        losses = [weight.square().sum() for _ in range(3)]
    assert len(in_graph) == 3

    for loss in losses:
        metrics.log_value("loss", loss, **setting)
    del loss, losses
    gc.collect()

    assert not in_graph
    assert not metrics.peek("loss").requires_grad


@each_setting
def test_a_logged_parameter_is_not_changed_by_the_optimizer(setting: dict[str, Any]) -> None:
    metrics = MetricsLogger()
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    metrics.log_value("parameter", parameter, **setting)
    before = metrics.peek("parameter")

    parameter.sum().backward()
    optimizer.step()

    assert parameter.tolist() == pytest.approx([0.9, 1.9])
    assert before.tolist() == [1.0, 2.0]
    assert metrics.peek("parameter").tolist() == [1.0, 2.0]


@each_setting
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_logging_and_reducing_never_wait_for_the_device(dtype: torch.dtype, setting: dict[str, Any]) -> None:
    metrics = MetricsLogger()
    for _ in range(4):
        metrics.log_value("value", torch.zeros((), dtype=dtype, device="meta"), **setting)
        metrics.log_dict({"value": torch.zeros((), dtype=dtype, device="meta")}, key="dict", **setting)

    # Tensors on the meta device have no data: whatever asks for it fails.
    assert metrics.peek("value").device.type == "meta"
    assert metrics.reduce()["dict"]["value"].device.type == "meta"


def test_dispatch_never_waits_for_the_device(modules: nn.ModuleDict) -> None:
    learner = PolicyLearner(module=modules.to("meta"))
    batch = {column: tensor.to("meta") for column, tensor in transitions(16).items()}

    for _ in range(3):
        losses = compute_losses(learner, batch)
        sum(losses.values()).backward()

    assert {loss.device.type for loss in losses.values()} == {"meta"}
    assert learner.metrics.reduce()["icm"]["forward_loss"].device.type == "meta"


@each_reduce
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_make_a_long_run_stand_still(dtype: torch.dtype, reduce: Reduce) -> None:
    metrics = MetricsLogger()
    for value in [4.0] * 300 + [0.125] * 3000:
        metrics.log_value("half", torch.tensor(value, dtype=dtype), reduce=reduce)
        metrics.log_value("double", torch.tensor(value, dtype=torch.float64), reduce=reduce)

    assert metrics.peek("half").item() == pytest.approx(metrics.peek("double").item(), rel=1e-3)


def test_the_mean_of_large_float16_values_does_not_overflow() -> None:
    metrics = MetricsLogger()
    for value in [40_000.0, 60_000.0] * 10:
        metrics.log_value("loss", torch.tensor(value, dtype=torch.float16))

    assert metrics.peek("loss").item() == pytest.approx(50_000.0)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(("reduce", "expected"), [("mean", 0.75), ("sum", 3), ("min", 0), ("max", 1), ("item", 1)])
def test_bools_count_as_zero_and_one(window: int | None, reduce: Reduce, expected: float) -> None:
    metrics = MetricsLogger()
    for done in [True, False, True, True]:
        metrics.log_value("done", torch.tensor(done), reduce=reduce, window=window)

    assert metrics.peek("done").item() == expected


@each_reduce
def test_arrays_are_reduced_element_by_element(reduce: Reduce) -> None:
    first, second = torch.tensor([1.0, 8.0]), torch.tensor([3.0, 4.0])
    metrics = MetricsLogger()
    metrics.log_value("value", first, reduce=reduce)
    metrics.log_value("value", second, reduce=reduce)

    expected = {
        "mean": (first + second) / 2,
        "min": torch.minimum(first, second),
        "max": torch.maximum(first, second),
        "sum": first + second,
        "ema": 0.99 * first + 0.01 * second,
        "item": second,
    }
    assert torch.allclose(metrics.reduce()["value"], expected[reduce])


@pytest.mark.parametrize(
    ("dtype", "reduced"),
    [
        (torch.bool, torch.int32),
        (torch.uint8, torch.int32),
        (torch.int64, torch.int64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_small_types_are_reduced_in_32_bits(dtype: torch.dtype, reduced: torch.dtype) -> None:
    metrics = MetricsLogger()
    for value in torch.ones(2, dtype=dtype):
        metrics.log_value("value", value, reduce="sum")
    assert metrics.peek("value").dtype == reduced


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("reduce", "expected"), [("mean", 150.0), ("sum", 300), ("max", 200), ("ema", 199.0)])
def test_small_integers_do_not_wrap_around(window: int | None, reduce: Reduce, expected: float) -> None:
    metrics = MetricsLogger()
    for value in (200, 100):
        tensor = torch.tensor(value, dtype=torch.uint8)
        metrics.log_value("value", tensor, reduce=reduce, window=None if reduce == "ema" else window)

    assert metrics.peek("value").item() == pytest.approx(expected)
