"""Eager PyTorch: gradients, and a learner that is an `nn.Module` too."""

import torch
from frameworks.shared import Policy, PolicyLearner, compute_losses, make_modules, transitions
from torch import nn


def test_the_gradients_are_those_of_the_losses_computed_by_hand():
    modules, batch = make_modules(), transitions(16)
    logits, judged = modules["policy"](batch)["logits"], modules["icm"](batch)
    errors = nn.functional.cross_entropy(
        judged["predicted_actions"], batch["actions"], reduction="none"
    )
    by_hand = {
        "policy": nn.functional.cross_entropy(logits, batch["actions"]),
        "icm": 0.2 * judged["intrinsic_rewards"].mean() + 0.8 * errors.mean(),
    }
    parameters = [*modules.parameters()]
    expected = torch.autograd.grad([*by_hand.values()], parameters)

    losses = compute_losses(PolicyLearner(module=modules), batch)
    torch.autograd.backward([*losses.values()])

    assert losses == by_hand
    assert all(map(torch.equal, (parameter.grad for parameter in parameters), expected))


def test_an_instance_of_a_plain_module_is_not_asked_for_a_loss_method(monkeypatch):
    class NewPolicy(Policy): ...  # about which abc knows nothing yet

    def get_attribute(module, name):  # takes over a microsecond
        assert name != "compute_self_supervised_loss"
        return original(module, name)

    original = nn.Module.__getattr__
    monkeypatch.setattr(nn.Module, "__getattr__", get_attribute)
    learner = PolicyLearner(module={"policy": NewPolicy()})
    assert compute_losses(learner, transitions(8)).keys() == {"policy"}


def test_dispatch_never_waits_for_the_device():
    learner = PolicyLearner(module=make_modules().to("meta"))
    batch = {column: tensor.to("meta") for column, tensor in transitions(16).items()}

    for _ in range(2):
        losses = compute_losses(learner, batch)
        torch.autograd.backward([*losses.values()])
    assert {loss.device.type for loss in losses.values()} == {"meta"}
    assert learner.metrics.reduce()["icm"]["forward_loss"].device.type == "meta"


class ModuleLearner(nn.Module, PolicyLearner):
    call_super_init = True  # nn.Module initialises the learner


def test_an_nn_module_that_is_a_learner_too_has_the_parameters():
    modules = make_modules()
    learner = ModuleLearner(module=modules)
    assert [*learner.parameters()] == [*modules.parameters()]
    assert compute_losses(learner, transitions(16)).keys() == {"policy", "icm"}
