"""Eager PyTorch: gradients, and the time of a dispatch."""

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
