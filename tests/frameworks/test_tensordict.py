"""TorchRL's `TensorDict` as a batch, as an output, and as what is logged."""

import pytest
import torch
from frameworks.shared import NUM_ACTIONS, OBS_SIZE, transitions
from modules.icm import ICM
from tensordict import LazyStackedTensorDict, TensorDict

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

BATCH_SIZE = 8


def make_tensordict(kind="plain"):
    columns = transitions(BATCH_SIZE)
    columns["extra"] = {"info": torch.randn(BATCH_SIZE, 2)}
    data = TensorDict(columns, [BATCH_SIZE])
    if kind == "lazily stacked":
        return LazyStackedTensorDict.lazy_stack([*data])
    return data.lock_() if kind == "locked" else data


@pytest.mark.parametrize("kind", ["plain", "locked", "lazily stacked"])
def test_the_loss_and_the_gradients_are_those_of_a_dict(kind):
    icm = ICM(OBS_SIZE, NUM_ACTIONS)
    data = make_tensordict(kind)
    as_dict = {column: data[column] for column in ("obs", "new_obs", "actions")}
    learner = Learner[torch.Tensor](module={"icm": icm})

    expected = learner.compute_losses(fwd_out={"icm": icm(as_dict)}, batch={"icm": as_dict})
    logged = learner.metrics.reduce()
    fwd_out = TensorDict({"icm": TensorDict(icm(data), [BATCH_SIZE])})
    batch = TensorDict({"icm": data, "policy": data})
    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch)

    assert losses == expected
    assert learner.metrics.reduce() == logged
    gradients, expected_gradients = (
        torch.autograd.grad(loss["icm"], [*icm.parameters()]) for loss in (losses, expected)
    )
    assert all(map(torch.equal, gradients, expected_gradients))
    assert (
        check_module(icm, batch=data, fwd_out=TensorDict(icm(data), [BATCH_SIZE])) == losses["icm"]
    )


def test_an_id_that_a_tensordict_lacks_is_named():
    learner = Learner(module={"icm": ICM(OBS_SIZE, NUM_ACTIONS)})
    message = r"'icm' is in fwd_out but not in batch, which has \['policy'\]"
    with pytest.raises(KeyError, match=message):
        learner.compute_losses(fwd_out={"icm": {}}, batch=TensorDict({"policy": make_tensordict()}))


def test_a_tensordict_is_logged_like_the_dict_it_holds():
    loss = torch.tensor(1.0, requires_grad=True)
    values = TensorDict({"loss": loss, "terms": {"forward": torch.tensor(2.0)}})
    metrics = MetricsLogger()
    metrics.log_dict(values, key="icm")
    metrics.log_dict({"nested": values})
    assert not metrics.peek(("icm", "loss")).requires_grad
    expected = {"loss": 1.0, "terms": {"forward": 2.0}}
    assert metrics.reduce() == {"icm": expected, "nested": expected}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda batch: batch.set("error", torch.zeros(BATCH_SIZE)), "error"),
        (lambda batch: batch["obs"].zero_(), "obs"),
        (lambda batch: batch["extra", "info"].zero_(), "extra"),
    ],
)
def test_a_check_finds_what_was_changed_in_a_tensordict(change, column):
    class Changing(SelfSupervisedLossAPI[torch.Tensor]):
        def compute_self_supervised_loss(self, *, batch, **kwargs):
            change(batch)
            return torch.zeros(())

    with pytest.raises(AssertionError, match=rf"changed batch\['{column}'\]"):
        check_module(Changing(), batch=make_tensordict(), fwd_out={})
