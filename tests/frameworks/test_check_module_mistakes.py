"""`check_module` finds the mistakes in a torch module: each row has one, and gets one message.

One row for each message has the advice as well, the others only the fault.
"""

import collections
from functools import partial

import pytest
import torch
from frameworks.predictor import (
    Predictor,
    changing,
    error,
    inputs_of,
    linear,
    predict,
    predicting,
    predictor,
    returning,
    transitions,
)
from torch import nn
from torch.nn import functional as F
from unit.checking import hints_of, violations_of

from self_supervised_loss import SelfSupervisedLossAPI

# Violations

NO_GRADIENT = "The loss has no gradient for any parameter."
OF_ANOTHER_INSTANCE = predictor(forward=lambda self, batch: Predictor()(batch))


class Holder(SelfSupervisedLossAPI[torch.Tensor]):
    """Is not a torch module, but holds one and a parameter."""

    batch = staticmethod(transitions)

    def __init__(self, inner):
        self.agents, self.scale = [{"icm": inner}], nn.Parameter(torch.ones(()))

    def __call__(self, batch):
        return {"prediction": self.scale * self.agents[0]["icm"](batch)["prediction"]}

    def compute_self_supervised_loss(self, **arguments):
        return self.agents[0]["icm"].compute_self_supervised_loss(**arguments)


def take_a_step(self, batch, out):
    error(self, batch, out).backward(retain_graph=True)
    torch.optim.Adam(self.net.parameters()).step()


def change_settings(*_):
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.autocast("cpu").__enter__()


VIOLATIONS = {
    "detached prediction": (
        predicting(lambda self, obs: self.net(obs).detach()),
        f"{NO_GRADIENT}\n"
        "  Compute fwd_out with this module and with gradients, freeze only some of its\n"
        "  parameters, and detach nothing on the way to the loss.",
    ),
    "prediction of another instance": (OF_ANOTHER_INSTANCE, NO_GRADIENT),
    "prediction of another instance, compiled": (
        lambda: torch.compile(OF_ANOTHER_INSTANCE(), backend="aot_eager"),
        NO_GRADIENT,
    ),
    "prediction of a new tensor": (
        lambda: predicting(lambda self, obs: obs.clone().requires_grad_().exp())(net=None),
        NO_GRADIENT,
    ),
    "all frozen": (lambda: Predictor().requires_grad_(False), NO_GRADIENT),
    "number": (
        returning(torch.Tensor.item),
        "The loss is a float, which has no gradient.\n"
        "  Return the tensor, without item() or float().",
    ),
    "dict": (returning(lambda loss: {"loss": loss}), "The loss is a dict, not a real number."),
    "not reduced": (
        predictor(loss=lambda self, batch, out: out["prediction"]),
        "The loss has shape (8, 4), expected ().",
    ),
    "division by zero": (returning(lambda loss: loss / 0.0), "The loss is inf."),
    "argmax": (
        returning(lambda loss: loss.expand(2).argmax()),
        "The loss is of type torch.int64, which has no gradient.\n"
        "  Look for an argmax or a comparison on the way to the loss.",
    ),
    "root of zero": (
        returning(lambda loss: torch.where(loss > 0, loss, (0.0 * loss).sqrt())),
        "The gradient of the loss is NaN or infinite for net.weight, net.bias.\n"
        "  Look for a square root or norm taken at zero; `torch.where` does not prevent this.",
    ),
    "output changed in place that backward needs": (
        predictor(
            changing(lambda self, batch, out: out["prediction"].mul_(7.0)),
            forward=lambda self, batch: {"prediction": self.net(batch["obs"]).exp()},
        ),
        "The loss method changed fwd_out['prediction'].",
    ),
    "step of an optimizer": (
        lambda: Holder(changing(take_a_step)(net=nn.Sequential(linear(), linear()))),
        "The loss method changed agents[0]['icm'].net.0.weight, "
        "agents[0]['icm'].net.0.weight.grad, agents[0]['icm'].net.0.bias, "
        "agents[0]['icm'].net.0.bias.grad, agents[0]['icm'].net.1.weight and 4 more.\n"
        "  Leave backward(), optimizer steps and target updates to the training loop.",
    ),
    "mode": (
        changing(lambda self, *_: self.eval()),
        "The loss method called train() or eval() on the module, net, target.\n"
        "  Leave the training mode to the training loop.",
    ),
}
CHANGES = {
    "data": (lambda self, *_: self.target.weight.data.mul_(0.9), "target.weight"),
    "no difference": (lambda self, *_: self.target.weight.mul_(1.0), "target.weight"),
    "equal parameter": (
        lambda self, *_: setattr(self.net, "bias", nn.Parameter(self.net.bias.detach())),
        "net.bias",
    ),
    "frozen": (lambda self, *_: self.net.bias.requires_grad_(False), "net.bias"),
    "slice of a buffer": (lambda self, batch, out: batch["obs"].sub_(1.0), "batch['obs']"),
    "no difference in a tuple": (
        lambda self, batch, out: batch["state"].cell.clamp_(-100, 100),
        "batch['state']",
    ),
    "output detached": (
        lambda self, batch, out: out.update(prediction=out["prediction"].detach()),
        "fwd_out['prediction']",
    ),
}
VIOLATIONS |= {
    name: (changing(change), f"The loss method changed {changed}.")
    for name, (change, changed) in CHANGES.items()
}


@pytest.mark.parametrize(("make", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_gets_one_message(make, message):
    module = make()
    (found,) = violations_of(module, **inputs_of(module))
    assert found.startswith(message)


def test_changed_settings_of_torch_are_a_violation_and_restored():
    module = changing(change_settings)()
    assert violations_of(module, **inputs_of(module)) == [
        "The loss method did not restore torch's grad mode, default dtype, autocast on cpu.\n"
        "  Change settings in a `with` block only."
    ]
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    assert torch.get_default_dtype() == torch.float32


def test_a_graph_that_backward_rejects_is_a_violation():
    module = returning(lambda loss: loss.exp().add_(1.0))()
    (message,) = violations_of(module, **inputs_of(module))
    assert message.startswith("backward() raises RuntimeError: one of the variables needed")
    assert message.endswith(
        "  Change no tensor in place, and leave backward() to the training loop."
    )


# Hints

RUNS_ITS_NETWORK = "The loss reaches the parameters, but not through fwd_out."
ALL_ZERO = "Every gradient of the loss is zero, although the loss is not."
BROADCAST = "Shapes (8, 1) and (8,) broadcast to (8, 8)."
TRAINS_A_COLUMN = "The loss also trains the source of batch['encoded']."


def keep_networks_elsewhere():
    """Makes a module with networks in a list, a deque, an object and a closure."""
    module, hidden = Predictor(net=None), linear(bias=False)
    module.heads, module.queue = [linear()], collections.deque([linear(bias=False)])
    module.offset = collections.UserDict({"first": nn.Parameter(torch.zeros(()))})

    def net(obs):
        networks = module.heads[0], module.queue[0], hidden
        return module.offset["first"] + sum(network(obs) for network in networks)

    module.__dict__["net"] = net
    return module


def hide_from_a_class_that_holds_modules():
    hidden = linear()
    hiding = predictor(
        loss=lambda self, batch, out: error(self, batch, out) + hidden(batch["obs"]).mean()
    )
    return Holder(hiding(unused=linear(bias=False)))


def trains_too(encode):
    """Returns a class that trains the source of a column of the batch."""
    return predictor(
        batch=lambda self: transitions() | {"encoded": encode()},
        loss=lambda self, batch, out: error(self, batch, out) + batch["encoded"].square().mean(),
    )


def run_in_the_loss(self, batch, out):
    return error(self, batch, predict(self, batch))


def keep_a_state_of_the_forward_pass(self, obs):
    self.state = self.net(obs + self.state)
    return 2.0 * self.state


def keep_a_state_of_the_loss(self, batch, out):
    self.state = out["prediction"] * (1.0 + self.state)
    return self.state.square().mean()


def train_a_copy():
    networks = [nn.Sequential(linear(), nn.LayerNorm(4)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    return Predictor(net=networks[0], target=networks[1])


def comparing(compare):
    """Returns a class whose loss compares the prediction with the actions."""
    return predictor(loss=lambda self, batch, out: compare(out["prediction"], batch["actions"]))


def broadcasting(compare):
    """Returns a class whose loss compares a column with a row."""
    return comparing(lambda values, actions: compare(values[:, :1], actions + 0.5))


REDUCING = F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.poisson_nll_loss, F.kl_div
HINTS = {
    "parameters without a gradient": (
        lambda: Predictor(unused=nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))),
        "The loss has no gradient for unused.0.weight, unused.0.bias, unused.1.weight, "
        "unused.1.bias, unused.2.weight and 3 more.\n"
        "  Freeze them, or ignore this if another loss trains them.",
    ),
    "parameter of a class that only holds torch modules": (
        hide_from_a_class_that_holds_modules,
        "The loss has no gradient for agents[0]['icm'].unused.weight.",
    ),
    "networks without an optimizer": (
        keep_networks_elsewhere,
        "module.parameters() does not contain heads[0].weight, heads[0].bias, queue[0].weight, "
        "offset['first'], a parameter of shape (4, 4).\n"
        "  No optimizer trains them. Keep networks in attributes, a torch.nn.ModuleList or\n"
        "  a torch.nn.ModuleDict.",
    ),
    "mask ignored": (
        predictor(batch=lambda self: transitions() | {"loss_mask": torch.arange(8) < 6}),
        "The loss has a gradient for masked rows of fwd_out['prediction'].\n"
        "  Leave rows out where batch['loss_mask'] is False, or detach them if they only\n"
        "  serve as targets.",
    ),
    "network run in the loss": (
        predictor(loss=run_in_the_loss),
        f"{RUNS_ITS_NETWORK}\n"
        "  Read fwd_out: running networks again doubles the work, counts the batch twice\n"
        "  in BatchNorm, and may keep DDP from averaging their gradients.",
    ),
    "network run in the loss only": (
        predictor(forward=lambda self, batch: {}, loss=run_in_the_loss),
        RUNS_ITS_NETWORK,
    ),
    "encoder trained too": (
        trains_too(lambda: nn.Linear(1, 1)(torch.ones(8, 1))),
        f"{TRAINS_A_COLUMN}\n  Detach it, or ignore this if it is intentional.",
    ),
    "column trained too": (trains_too(lambda: nn.Parameter(torch.ones(8))), TRAINS_A_COLUMN),
    "state of the forward pass kept": (
        predictor(predicting(keep_a_state_of_the_forward_pass), state=0.0),
        "The graph of this step is kept in state.\n"
        "  Detach it, or backward() fails in the next step that reads it.",
    ),
    "state of the loss kept": (
        predictor(state=0.0, loss=keep_a_state_of_the_loss),
        "The graph of this step is kept in state.",
    ),
    "buffer changed": (
        lambda: changing(lambda self, *_: self.norm(torch.ones(2, 1)))(
            norm=nn.BatchNorm1d(1, affine=False)
        ),
        "The loss method changed buffers: norm.running_mean, norm.running_var, "
        "norm.num_batches_tracked.\n"
        "  They also change when the loss is only evaluated. Update them in the training\n"
        "  loop, or evaluate a copy of the module.",
    ),
    "target trained": (
        train_a_copy,
        "target starts as a copy of net, and the loss trains both.\n"
        "  If one is a target network, freeze it, or stop the gradient at its output.",
    ),
    "free nats": (
        returning(lambda loss: loss.clamp(min=100.0)),
        f"{ALL_ZERO}\n"
        "  It may be saturated on this batch. Look for a clip, round(), sign(), or a softmax\n"
        "  over one logit.",
    ),
    "rounding": (returning(lambda loss: loss.round() + 1.0), ALL_ZERO),
    "softmax over one logit": (returning(lambda loss: loss[None].softmax(0).sum()), ALL_ZERO),
    "cross-entropy of a softmax over time": (
        comparing(lambda x, y: F.cross_entropy(x.softmax(-1)[None].movedim(-1, 1), y[None])),
        "cross_entropy or log_softmax is applied to the output of softmax.\n"
        "  Pass the logits: it applies softmax itself.",
    ),
    "binary cross-entropy of a sigmoid": (
        comparing(lambda x, y: F.binary_cross_entropy_with_logits(x[:, 0].sigmoid(), y / 2)),
        "binary_cross_entropy_with_logits is applied to the output of sigmoid.",
    ),
    "column minus row": (
        broadcasting(lambda column, row: (column - row).square().mean()),
        f"{BROADCAST}\n  Squeeze one of them, or use `unsqueeze` if this is intentional.",
    ),
    "gaussian": (broadcasting(partial(F.gaussian_nll_loss, var=torch.ones(8, 1))), BROADCAST),
    **{loss.__name__: (broadcasting(loss), BROADCAST) for loss in REDUCING},
}


@pytest.mark.parametrize(("make", "message"), HINTS.values(), ids=HINTS)
def test_a_hint_gets_one_message(make, message):
    module = make()
    (found,) = hints_of(module, **inputs_of(module))
    assert found.startswith(message)


def test_nothing_is_recorded_while_dynamo_traces(monkeypatch):
    module = broadcasting(F.mse_loss)()
    monkeypatch.setattr(torch.compiler, "is_dynamo_compiling", lambda: True)
    assert hints_of(module, **inputs_of(module)) == []
