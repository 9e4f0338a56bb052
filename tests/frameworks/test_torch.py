"""Eager PyTorch: training steps, and a learner that is an `nn.Module` too."""

from typing import Any

import pytest
import torch
from modules.icm import ICM
from torch import nn

from self_supervised_loss import Learner, SelfSupervisedLossAPI

OBS_SIZE, NUM_ACTIONS = 4, 3


class PolicyLearner(Learner[torch.Tensor]):
    """Has the loss of a policy that brings none, an `nn.Linear` from observations to the logits of
    actions."""

    def compute_loss_for_module(
        self, *, batch: dict[str, Any], fwd_out: dict[str, Any], **kwargs: Any
    ) -> torch.Tensor:
        return nn.functional.cross_entropy(fwd_out["logits"], batch["actions"])


def transitions(batch_size: int) -> dict[str, torch.Tensor]:
    return {
        "obs": torch.randn(batch_size, OBS_SIZE),
        "new_obs": torch.randn(batch_size, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (batch_size,)),
    }


def compute_losses(learner: Learner, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    fwd_out = {
        "policy": {"logits": learner.module["policy"](batch["obs"])},
        "icm": learner.module["icm"](batch),
    }
    return learner.compute_losses(fwd_out=fwd_out, batch={"policy": batch, "icm": batch})


@pytest.fixture
def modules() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"policy": nn.Linear(OBS_SIZE, NUM_ACTIONS), "icm": ICM(OBS_SIZE, NUM_ACTIONS)}
    )


def test_the_gradients_are_those_of_the_losses_computed_by_hand(modules: nn.ModuleDict) -> None:
    policy, icm = modules["policy"], modules["icm"]
    batch = transitions(16)
    judged = icm(batch)
    by_hand = {
        "policy": nn.functional.cross_entropy(policy(batch["obs"]), batch["actions"]),
        "icm": 0.2 * judged["intrinsic_rewards"].mean()
        + 0.8
        * nn.functional.cross_entropy(
            judged["action_logits"], batch["actions"], reduction="none"
        ).mean(),
    }
    expected = torch.autograd.grad(sum(by_hand.values()), list(modules.parameters()))

    losses = compute_losses(PolicyLearner(module=modules), batch)
    torch.autograd.backward([*losses.values()])

    assert list(losses) == ["policy", "icm"]
    for module_id, loss in losses.items():
        assert torch.equal(loss, by_hand[module_id])
    for parameter, gradient in zip(modules.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_an_instance_of_a_plain_module_is_not_asked_for_a_loss_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Policy(nn.Linear): ...

    def get_attribute(module: nn.Module, name: str) -> Any:  # takes over a microsecond
        assert name != "compute_self_supervised_loss"
        return original(module, name)

    original = nn.Module.__getattr__
    monkeypatch.setattr(nn.Module, "__getattr__", get_attribute)
    policy, batch = Policy(OBS_SIZE, NUM_ACTIONS), transitions(8)
    fwd_out = {"policy": {"logits": policy(batch["obs"])}}
    learner = PolicyLearner(module={"policy": policy})
    assert learner.compute_losses(fwd_out=fwd_out, batch={"policy": batch}).keys() == {"policy"}


def test_dispatch_never_waits_for_the_device(modules: nn.ModuleDict) -> None:
    learner = PolicyLearner(module=modules.to("meta"))
    batch = {column: tensor.to("meta") for column, tensor in transitions(16).items()}

    for _ in range(3):
        losses = compute_losses(learner, batch)
        torch.autograd.backward([*losses.values()])

    assert {loss.device.type for loss in losses.values()} == {"meta"}
    assert learner.metrics.reduce()["icm"]["forward_loss"].device.type == "meta"


# A learner that is an nn.Module too


class LearnerFirst(PolicyLearner, nn.Module):
    """The learner initialises nn.Module, so that the modules are registered."""


class ModuleFirst(nn.Module, PolicyLearner):
    """nn.Module initialises the learner where the class says so."""

    call_super_init = True


@pytest.mark.parametrize("learner_class", [LearnerFirst, ModuleFirst])
def test_a_learner_mixed_into_an_nn_module_has_the_parameters(
    learner_class: Any, modules: nn.ModuleDict
) -> None:
    learner = learner_class(module=modules)
    assert [*learner.parameters()] == [*modules.parameters()]
    assert [*learner.state_dict()] == [f"module.{name}" for name in modules.state_dict()]
    losses = compute_losses(learner, transitions(16))
    torch.autograd.backward([*losses.values()])
    assert all(parameter.grad is not None for parameter in learner.parameters())


# Several optimizers


class TwoTerms(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Has an encoder and a head, each trained by a term and an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(OBS_SIZE, 2), nn.Linear(2, 1)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        features = self.encoder(batch["obs"])
        return {"features": features, "prediction": self.head(features.detach())}

    def compute_self_supervised_loss(
        self, *, fwd_out: dict[str, torch.Tensor], **kwargs: Any
    ) -> torch.Tensor:
        return sum(self.terms(fwd_out), start=torch.zeros(()))

    def terms(self, fwd_out: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return fwd_out["features"].square().mean(), (fwd_out["prediction"] - 1).square().mean()


def test_each_of_two_optimizers_gets_the_gradient_of_its_own_term() -> None:
    torch.manual_seed(0)
    module, batch = TwoTerms(), transitions(16)
    parts = module.encoder, module.head
    expected = [
        torch.autograd.grad(term, [*part.parameters()])
        for part, term in zip(parts, module.terms(module(batch)), strict=True)
    ]
    optimizers = [torch.optim.SGD(part.parameters(), lr=1.0) for part in parts]
    before = [[parameter.clone() for parameter in part.parameters()] for part in parts]

    learner = Learner[torch.Tensor](module={"m": module})
    learner.compute_losses(fwd_out={"m": module(batch)}, batch={"m": batch})["m"].backward()
    for optimizer in optimizers:
        optimizer.step()

    for part, old, gradients in zip(parts, before, expected, strict=True):
        for parameter, old_value, gradient in zip(part.parameters(), old, gradients, strict=True):
            assert torch.equal(parameter, old_value - gradient)
