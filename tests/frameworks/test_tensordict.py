"""TorchRL's `TensorDict` as a batch, as an output, and as what is logged."""

from typing import Any

import pytest
import torch
from modules.icm import ICM
from tensordict import LazyStackedTensorDict, NonTensorData, TensorDict

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

OBS_SIZE, NUM_ACTIONS, BATCH_SIZE = 4, 3, 8


def transitions(kind: str) -> TensorDict:
    data = TensorDict(
        {
            "obs": torch.randn(BATCH_SIZE, OBS_SIZE),
            "new_obs": torch.randn(BATCH_SIZE, OBS_SIZE),
            "actions": torch.randint(NUM_ACTIONS, (BATCH_SIZE,)),
            "extra": {"info": torch.randn(BATCH_SIZE, 2)},
        },
        [BATCH_SIZE],
    )
    if kind == "lazily stacked":
        return LazyStackedTensorDict.lazy_stack(list(data))
    return data.lock_() if kind == "locked" else data


@pytest.mark.parametrize("kind", ["plain", "locked", "lazily stacked"])
def test_the_loss_and_the_gradients_are_those_of_a_dict(kind: str) -> None:
    torch.manual_seed(0)
    icm = ICM(OBS_SIZE, NUM_ACTIONS)
    data = transitions(kind)
    as_dict = {column: data[column] for column in ("obs", "new_obs", "actions")}
    learner = Learner[torch.Tensor](module={"icm": icm})

    expected = learner.compute_losses(fwd_out={"icm": icm(as_dict)}, batch={"icm": as_dict})["icm"]
    logged = learner.metrics.reduce()
    fwd_out = TensorDict({"icm": TensorDict(icm(data), [BATCH_SIZE])})
    losses = learner.compute_losses(
        fwd_out=fwd_out, batch=TensorDict({"icm": data, "policy": data})
    )

    assert list(losses) == ["icm"]
    assert torch.equal(losses["icm"], expected)
    parameters = list(icm.parameters())
    for gradient, as_expected in zip(
        torch.autograd.grad(losses["icm"], parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        assert torch.equal(gradient, as_expected)
    assert learner.metrics.reduce() == logged


def test_an_id_that_a_tensordict_lacks_is_named() -> None:
    icm = ICM(OBS_SIZE, NUM_ACTIONS)
    data = transitions("plain")
    learner = Learner[torch.Tensor](module={"icm": icm, ("icm", "extra"): icm})
    fwd_out = TensorDict({"icm": icm(data)})
    with pytest.raises(KeyError) as raised:
        learner.compute_losses(fwd_out=fwd_out, batch=TensorDict({"policy": data}))
    assert "'icm' is in fwd_out but not in batch, which has ['policy']" in str(raised.value)
    with pytest.raises(KeyError) as raised:
        learner.compute_losses(fwd_out=TensorDict({"rnd": {}}), batch=TensorDict({"rnd": data}))
    assert "'rnd' is in fwd_out but not in module, which has ['icm', ('icm', 'extra')]" in str(
        raised.value
    )
    assert learner.metrics.reduce() == {}


def test_a_column_that_a_tensordict_lacks_is_named_with_the_module() -> None:
    icm = ICM(OBS_SIZE, NUM_ACTIONS)
    data = transitions("plain")
    fwd_out = TensorDict({"icm": TensorDict(icm(data), [BATCH_SIZE])})
    del data["actions"]
    with pytest.raises(KeyError, match="actions") as raised:
        Learner(module={"icm": icm}).compute_losses(
            fwd_out=fwd_out, batch=TensorDict({"icm": data})
        )
    assert getattr(raised.value, "__notes__", []) == [
        "while computing the loss of module 'icm' (ICM)"
    ]


def test_a_tensordict_is_logged_like_the_dict_it_holds() -> None:
    values = {
        "loss": torch.tensor(1.0, requires_grad=True),
        "terms": {"forward": torch.tensor(2.0)},
    }
    metrics = MetricsLogger()
    metrics.log_dict(TensorDict(values), key="icm")
    metrics.log_dict({"nested": TensorDict(values)})
    assert not metrics.peek(("icm", "loss")).requires_grad
    expected = {"loss": 1.0, "terms": {"forward": 2.0}}
    assert metrics.reduce() == {"icm": expected, "nested": expected}


def test_text_in_a_tensordict_is_refused_with_its_key() -> None:
    metrics = MetricsLogger()
    values = TensorDict({"good": torch.tensor(1.0), "text": NonTensorData("text")})
    with pytest.raises(TypeError, match=r"of \('text',\) is not a number, an array or a tensor"):
        metrics.log_dict(values)
    assert metrics.reduce() == {"good": 1.0}


@pytest.mark.parametrize("kind", ["plain", "locked", "lazily stacked"])
def test_a_module_is_checked_with_tensordicts(kind: str) -> None:
    icm = ICM(OBS_SIZE, NUM_ACTIONS)
    data = transitions(kind)
    loss = check_module(icm, batch=data, fwd_out=TensorDict(icm(data), [BATCH_SIZE]))
    assert loss.requires_grad


def add_a_column(batch: TensorDict) -> None:
    batch["error"] = torch.zeros(BATCH_SIZE)


def change_a_column(batch: TensorDict) -> None:
    batch["obs"].zero_()


def change_a_nested_column(batch: TensorDict) -> None:
    batch["extra", "info"].zero_()


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        (add_a_column, "batch['error'] is not as before"),
        (change_a_column, "batch['obs'] is not as before"),
        (change_a_nested_column, "batch['extra'] is not as before"),
    ],
)
def test_a_check_finds_what_was_changed_in_a_tensordict(change: Any, violation: str) -> None:
    class Changing(SelfSupervisedLossAPI[torch.Tensor]):
        def compute_self_supervised_loss(self, *, batch: Any, **kwargs: Any) -> torch.Tensor:
            change(batch)
            return torch.zeros(())

    with pytest.raises(AssertionError) as raised:
        check_module(Changing(), batch=transitions("plain"), fwd_out={})
    assert violation in str(raised.value)
