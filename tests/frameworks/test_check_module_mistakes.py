"""`check_module` finds the mistakes in a torch module: each row has one, and gets one message."""

import collections

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
from self_supervised_loss.testing import check_module

# Violations

NO_GRADIENT = (
    "The loss has no gradient for any parameter.\n"
    "  Compute fwd_out with this module and with gradients, freeze only some of its\n"
    "  parameters, and detach nothing on the way to the loss."
)


def changed(names):
    advice = "Leave backward(), optimizer steps and target updates to the training loop."
    return f"The loss method changed {names}.\n  {advice}"


def changed_input(name):
    return f"The loss method changed {name}.\n  Change a copy: other code may read it, too."


def take_a_step(self, batch, out):
    error(self, batch, out).backward(retain_graph=True)
    torch.optim.Adam(self.net.parameters()).step()


def change_settings(*_):
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.autocast("cpu").__enter__()


def replace_the_bias(self, batch, out):
    self.net.bias = nn.Parameter(self.net.bias.detach())


def detach_the_output(self, batch, out):
    out["prediction"] = out["prediction"].detach()


def distribution(self, batch):
    scale = self.net(batch["obs"]).exp()
    return {"next_obs": torch.distributions.Normal(scale, scale.detach())}


def likelihood_of_a_changed_distribution(self, batch, out):
    loss = -out["next_obs"].log_prob(batch["new_obs"]).mean()
    out["next_obs"].scale.mul_(7)
    return loss


DETACHED = predicting(lambda self, obs: self.net(obs).detach())
OF_ANOTHER_INSTANCE = predictor(forward=lambda self, batch: Predictor()(batch))
OF_A_NEW_TENSOR = predicting(lambda self, obs: obs.clone().requires_grad_().exp())

VIOLATIONS = {
    "detached prediction": (DETACHED, NO_GRADIENT),
    "prediction of another instance": (OF_ANOTHER_INSTANCE, NO_GRADIENT),
    "prediction of a new tensor": (lambda: OF_A_NEW_TENSOR(net=None), NO_GRADIENT),
    "all frozen": (lambda: Predictor().requires_grad_(False), NO_GRADIENT),
    "number": (
        returning(torch.Tensor.item),
        "The loss is a float, which has no gradient.\n"
        "  Return the tensor, without item() or float().",
    ),
    "dict": (
        returning(lambda loss: {"loss": loss}),
        "The loss is a dict, not a real number.\n  Return one scalar, and log any other values.",
    ),
    "division by zero": (
        returning(lambda loss: loss / 0.0),
        "The loss is inf.\n  Look for a division by zero or a logarithm of zero.",
    ),
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
    "distribution changed in place": (
        predictor(forward=distribution, loss=likelihood_of_a_changed_distribution),
        changed_input("fwd_out['next_obs']"),
    ),
}


CHANGES = {
    "step of an optimizer": (
        take_a_step,
        changed("net.weight, net.weight.grad, net.bias, net.bias.grad"),
    ),
    "data": (lambda self, *_: self.target.weight.data.mul_(0.9), changed("target.weight")),
    "no difference": (lambda self, *_: self.target.weight.mul_(1.0), changed("target.weight")),
    "equal parameter": (replace_the_bias, changed("net.bias")),
    "frozen": (lambda self, *_: self.net.bias.requires_grad_(False), changed("net.bias")),
    "mode": (
        lambda self, *_: self.eval(),
        "The loss method called train() or eval() on the module, net, target.\n"
        "  Leave the training mode to the training loop.",
    ),
    "slice of a buffer": (
        lambda self, batch, out: batch["obs"].sub_(1.0),
        changed_input("batch['obs']"),
    ),
    "no difference in a tuple": (
        lambda self, batch, out: batch["state"].cell.clamp_(-100, 100),
        changed_input("batch['state']"),
    ),
    "output detached": (detach_the_output, changed_input("fwd_out['prediction']")),
}
VIOLATIONS |= {name: (changing(change), text) for name, (change, text) in CHANGES.items()}


@pytest.mark.parametrize(("make", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_gets_one_message(make, message):
    module = make()
    assert violations_of(module, **inputs_of(module)) == [message]


def test_changed_settings_of_torch_are_a_violation_and_restored():
    module = changing(change_settings)()
    assert violations_of(module, **inputs_of(module)) == [
        "The loss method did not restore torch's grad mode, default dtype, autocast on cpu.\n"
        "  Change settings in a `with` block only."
    ]
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert not torch.is_autocast_enabled("cpu")


class Holder(SelfSupervisedLossAPI[torch.Tensor]):
    """Is not a torch module, but holds one and a parameter."""

    batch = staticmethod(transitions)

    def __init__(self, inner):
        self.agents, self.scale = [{"icm": inner}], nn.Parameter(torch.ones(()))

    def __call__(self, batch):
        return {"prediction": self.scale * self.agents[0]["icm"](batch)["prediction"]}

    def compute_self_supervised_loss(self, **arguments):
        return self.agents[0]["icm"].compute_self_supervised_loss(**arguments)


def test_a_class_that_only_holds_torch_modules_is_checked():
    module = Holder(changing(take_a_step)())
    net = "agents[0]['icm'].net"
    assert violations_of(module, **inputs_of(module)) == [
        changed(f"{net}.weight, {net}.weight.grad, {net}.bias, {net}.bias.grad, scale.grad")
    ]


def test_a_graph_that_backward_rejects_is_a_violation():
    module = returning(lambda loss: loss.exp().add_(1.0))()
    (message,) = violations_of(module, **inputs_of(module))
    assert message.startswith("backward() raises RuntimeError: one of the variables needed")
    advice = "Change no tensor in place, and leave backward() to the training loop."
    assert message.endswith(f"\n  {advice}")


def test_a_loss_can_have_two_faults():
    unreduced = predictor(OF_ANOTHER_INSTANCE, loss=lambda self, batch, out: out["prediction"])()
    assert violations_of(unreduced, **inputs_of(unreduced)) == [
        "The loss has shape (8, 4), expected ().\n  Return one scalar, and log any other values.",
        NO_GRADIENT,
    ]


@pytest.mark.parametrize("make", [DETACHED, OF_ANOTHER_INSTANCE])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_module_is_checked(make, backend):
    module = torch.compile(make(), backend=backend)
    assert violations_of(module, **inputs_of(module)) == [NO_GRADIENT]
    torch._dynamo.reset()


def test_an_error_names_the_line_of_the_user_behind_decorators():
    class Fails(Predictor):
        @torch.enable_grad()
        def compute_self_supervised_loss(self, *, batch, **arguments):
            return F.mse_loss(self.net(batch["obs"][:, :1]), batch["obs"])

    line = Fails.compute_self_supervised_loss.__wrapped__.__code__.co_firstlineno + 2
    with pytest.raises(AssertionError, match="raised RuntimeError: mat1 and mat2") as raised:
        check_module(Fails(), batch=transitions(), fwd_out={})
    assert str(raised.value).endswith(f"\n  at {__file__}:{line}")


# Hints

RUNS_ITS_NETWORK = (
    "The loss reaches the parameters, but not through fwd_out.\n"
    "  Read fwd_out: running networks again doubles the work, counts the batch twice\n"
    "  in BatchNorm, and may keep DDP from averaging their gradients."
)
ALL_ZERO = (
    "Every gradient of the loss is zero, although the loss is not.\n"
    "  It may be saturated on this batch. Look for a clip, round(), sign(), or a softmax\n"
    "  over one logit."
)
BROADCAST = (
    "Shapes (8, 1) and (8,) broadcast to (8, 8).\n"
    "  Squeeze one of them, or use `unsqueeze` if this is intentional."
)
TRAINS_A_COLUMN = (
    "The loss also trains the source of batch['encoded'].\n"
    "  Detach it, or ignore this if it is intentional."
)


def normalised_twice(outer, inner):
    advice = f"Pass the logits: it applies {inner} itself."
    return f"{outer} is applied to the output of {inner}.\n  {advice}"


def kept_in(name):
    advice = "Detach it, or backward() fails in the next step that reads it."
    return f"The graph of this step is kept in {name}.\n  {advice}"


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


def trains_too(encode):
    """Returns a class that trains the source of a column of the batch."""
    return predictor(
        batch=lambda self: transitions() | {"encoded": encode()},
        loss=lambda self, batch, out: error(self, batch, out) + batch["encoded"].square().mean(),
    )


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


HINTS = {
    "parameters without a gradient": (
        lambda: Predictor(unused=nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))),
        "The loss has no gradient for unused.0.weight, unused.0.bias, unused.1.weight, "
        "unused.1.bias, unused.2.weight and 3 more.\n"
        "  Freeze them, or ignore this if another loss trains them.",
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
        predictor(loss=lambda self, batch, out: error(self, batch, predict(self, batch))),
        RUNS_ITS_NETWORK,
    ),
    "network run in the loss only": (
        predictor(
            forward=lambda self, batch: {},
            loss=lambda self, batch, out: error(self, batch, predict(self, batch)),
        ),
        RUNS_ITS_NETWORK,
    ),
    "encoder trained too": (trains_too(lambda: nn.Linear(1, 1)(torch.ones(8, 1))), TRAINS_A_COLUMN),
    "column trained too": (trains_too(lambda: nn.Parameter(torch.ones(8))), TRAINS_A_COLUMN),
    "state of the forward pass kept": (
        predictor(predicting(keep_a_state_of_the_forward_pass), state=0.0),
        kept_in("state"),
    ),
    "state of the loss kept": (
        predictor(state=0.0, loss=keep_a_state_of_the_loss),
        kept_in("state"),
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
    "free nats": (returning(lambda loss: loss.clamp(min=100.0)), ALL_ZERO),
    "rounding": (returning(lambda loss: loss.round() + 1.0), ALL_ZERO),
    "softmax over one logit": (returning(lambda loss: loss[None].softmax(0).sum()), ALL_ZERO),
    "cross-entropy of a softmax": (
        comparing(lambda scores, actions: F.cross_entropy(scores.softmax(dim=-1), actions)),
        normalised_twice("cross_entropy or log_softmax", "softmax"),
    ),
    "cross-entropy of a softmax over time": (
        comparing(
            lambda scores, actions: F.cross_entropy(
                scores.softmax(dim=-1).unsqueeze(0).movedim(-1, 1), actions.unsqueeze(0)
            )
        ),
        normalised_twice("cross_entropy or log_softmax", "softmax"),
    ),
    "binary cross-entropy of a sigmoid": (
        comparing(
            lambda scores, actions: F.binary_cross_entropy_with_logits(
                scores.sigmoid().sum(dim=-1).sigmoid(), 1.0 * (actions > 0)
            )
        ),
        normalised_twice("binary_cross_entropy_with_logits", "sigmoid"),
    ),
    "column minus row": (
        broadcasting(lambda column, row: (column - row).square().mean()),
        BROADCAST,
    ),
    "negative log-likelihood of a column": (
        broadcasting(lambda column, row: F.gaussian_nll_loss(column, row, torch.ones(8, 1))),
        BROADCAST,
    ),
    **{
        loss.__name__: (broadcasting(loss), BROADCAST)
        for loss in (
            F.mse_loss,
            F.l1_loss,
            F.smooth_l1_loss,
            F.huber_loss,
            F.poisson_nll_loss,
            F.kl_div,
        )
    },
}


@pytest.mark.parametrize(("make", "message"), HINTS.values(), ids=HINTS)
def test_a_hint_gets_one_message(make, message):
    module = make()
    assert hints_of(module, **inputs_of(module)) == [message]


def test_a_class_that_only_holds_torch_modules_may_hide_others():
    hidden = linear()
    hiding = predictor(
        loss=lambda self, batch, out: error(self, batch, out) + hidden(batch["obs"]).mean()
    )
    module = Holder(hiding(unused=linear(bias=False)))
    assert hints_of(module, **inputs_of(module)) == [
        "The loss has no gradient for agents[0]['icm'].unused.weight.\n"
        "  Freeze them, or ignore this if another loss trains them."
    ]


def test_nothing_is_recorded_while_dynamo_traces(monkeypatch):
    module = broadcasting(lambda column, row: (column - row).square().mean())()
    monkeypatch.setattr(torch.compiler, "is_dynamo_compiling", lambda: True)
    assert hints_of(module, **inputs_of(module)) == []
