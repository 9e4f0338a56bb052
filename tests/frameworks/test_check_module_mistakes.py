"""`check_module` finds the mistakes in a torch module: each row has one, and gets one message."""

import collections

import pytest
import torch
from frameworks.predictor import (
    OBS_SIZE,
    Predictor,
    changing,
    inputs_of,
    returning,
    transitions,
    with_parts,
)
from torch import nn
from torch.nn import functional as F
from unit.messages import hints_of, violations_of

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module

NO_GRADIENT = (
    "The loss has no gradient for any parameter.\n"
    "  Compute fwd_out with this module and with gradients, freeze only some of its\n"
    "  parameters, and detach nothing on the way to the loss."
)


def changed(names):
    advice = "Leave backward(), optimizer steps and target updates to the training loop."
    return f"The loss method changed {names}.\n  {advice}"


def changed_input(name):
    return f"The loss method changed {name}.\n  Change a copy: others may read it, too."


def left_changed(name):
    advice = "Change a setting in a `with` block, or restore it."
    return f"The loss method left torch's {name} changed.\n  {advice}"


# Violations


class DetachesThePrediction(Predictor):
    def forward(self, batch):
        return {"prediction": self.net(batch["obs"]).detach()}


class StartsFromAnotherInstance(Predictor):
    """Its loss has a graph, which leads to no parameter of this instance."""

    def forward(self, batch):
        return Predictor()(batch)


class HasNoParameters(Predictor):
    """Its loss has a graph, which leads to a tensor of the forward pass only."""

    def __init__(self):
        nn.Module.__init__(self)

    def forward(self, batch):
        return {"prediction": batch["obs"].clone().requires_grad_().exp()}

    def loss(self, batch, fwd_out):
        return fwd_out["prediction"].mean()


class StepsAnOptimizer(Predictor):
    def loss(self, batch, fwd_out):
        loss = super().loss(batch, fwd_out)
        loss.backward()
        torch.optim.Adam(self.net.parameters()).step()
        return loss


class ChangesADistribution(Predictor):
    def forward(self, batch):
        scale = self.net(batch["obs"]).exp()
        return {"next_obs": torch.distributions.Normal(scale, scale.detach())}

    def loss(self, batch, fwd_out):
        loss = -fwd_out["next_obs"].log_prob(batch["new_obs"]).mean()
        fwd_out["next_obs"].scale.mul_(7)
        return loss


class RewardsInAColumn(Predictor):
    def forward(self, batch):
        fwd_out = super().forward(batch)
        errors = fwd_out["prediction"] - batch["new_obs"]
        return fwd_out | {"intrinsic_rewards": errors.square().mean(dim=-1, keepdim=True)}


class RewardsTakeALogarithm(Predictor):
    def forward(self, batch):
        errors = 0.0 * batch["obs"].sum(dim=-1)
        return super().forward(batch) | {"intrinsic_rewards": errors.log()}


def copy_the_data(parameter):
    parameter.data = parameter.data * 2


def replace_bias(layer):
    layer.bias = nn.Parameter(layer.bias.detach())


def detach_in(fwd_out, name):
    fwd_out[name] = fwd_out[name].detach()


VIOLATIONS = {
    "detached prediction": (DetachesThePrediction, NO_GRADIENT),
    "prediction of another instance": (StartsFromAnotherInstance, NO_GRADIENT),
    "no parameters": (HasNoParameters, NO_GRADIENT),
    "all frozen": (lambda: Predictor().requires_grad_(False), NO_GRADIENT),
    "number": (
        returning(lambda loss: loss.item()),
        "The loss is a float, which has no gradient.\n"
        "  Return the tensor, without item() or float().",
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
    "step of an optimizer": (
        StepsAnOptimizer,
        changed("net.weight, net.weight.grad, net.bias, net.bias.grad"),
    ),
    "target changed through its data": (
        changing(lambda module, *_: module.target.weight.data.mul_(0.9)),
        changed("target.weight"),
    ),
    "target changed without a difference": (
        changing(lambda module, *_: module.target.weight.mul_(1.0)),
        changed("target.weight"),
    ),
    "target given other data": (
        changing(lambda module, *_: copy_the_data(module.target.weight)),
        changed("target.weight"),
    ),
    "parameter replaced by one with its data": (
        changing(lambda module, *_: replace_bias(module.net)),
        changed("net.bias"),
    ),
    "parameter frozen": (
        changing(lambda module, *_: module.net.bias.requires_grad_(False)),
        changed("net.bias"),
    ),
    "evaluation mode": (
        changing(lambda module, *_: module.eval()),
        "The loss method called train() or eval() on the module, net, target.\n"
        "  Leave the training mode to the training loop.",
    ),
    "grad mode": (
        changing(lambda *_: torch.set_grad_enabled(False)),
        left_changed("grad mode"),
    ),
    "default dtype": (
        changing(lambda *_: torch.set_default_dtype(torch.float64)),
        left_changed("default dtype"),
    ),
    "autocast": (
        changing(lambda *_: torch.autocast("cpu").__enter__()),
        left_changed("autocast on cpu"),
    ),
    "slice of a buffer normalised": (
        changing(lambda module, batch, fwd_out: batch["obs"].sub_(1.0)),
        changed_input("batch['obs']"),
    ),
    "state clamped within its bounds": (
        changing(lambda module, batch, fwd_out: batch["state"].cell.clamp_(-100, 100)),
        changed_input("batch['state']"),
    ),
    "output detached in its dict": (
        changing(lambda module, batch, fwd_out: detach_in(fwd_out, "prediction")),
        changed_input("fwd_out['prediction']"),
    ),
    "distribution changed in place": (ChangesADistribution, changed_input("fwd_out['next_obs']")),
    "rewards in a column": (
        RewardsInAColumn,
        "fwd_out['intrinsic_rewards'] has shape (8, 1), expected (8,).\n"
        "  Return one reward for each row, to be added to batch['rewards'].",
    ),
    "rewards that are infinite": (
        RewardsTakeALogarithm,
        "fwd_out['intrinsic_rewards'] is NaN or infinite.\n"
        "  Look for a division by zero or a logarithm of zero.",
    ),
}


@pytest.mark.parametrize(("make", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_gets_one_message(make, message):
    module = make()
    assert violations_of(module, **inputs_of(module)) == [message]


def test_settings_of_torch_are_restored():
    def change(*_):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.autocast("cpu").__enter__()

    module = changing(change)()
    (message,) = violations_of(module, **inputs_of(module))
    assert "grad mode, default dtype, autocast on cpu" in message
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert not torch.is_autocast_enabled("cpu")


class Holder(SelfSupervisedLossAPI[torch.Tensor]):
    """Is not a torch module, but holds one and a parameter."""

    def __init__(self):
        self.agents = [{"icm": StepsAnOptimizer()}]
        self.scale = nn.Parameter(torch.ones(()))

    def batch(self):
        return transitions()

    def __call__(self, batch):
        return {"prediction": self.scale * self.agents[0]["icm"](batch)["prediction"]}

    def compute_self_supervised_loss(self, **arguments):
        return self.agents[0]["icm"].compute_self_supervised_loss(**arguments)


def test_a_class_that_only_holds_torch_modules_is_checked():
    module = Holder()
    net = "agents[0]['icm'].net"
    assert violations_of(module, **inputs_of(module)) == [
        changed(f"{net}.weight, {net}.weight.grad, {net}.bias, {net}.bias.grad, scale.grad")
    ]


def test_a_graph_that_backward_refuses_is_a_violation():
    module = returning(lambda loss: loss.exp().add_(1.0))()
    (message,) = violations_of(module, **inputs_of(module))
    assert message.startswith("backward() raises RuntimeError: one of the variables needed")
    advice = "Change no tensor in place, and leave backward() to the training loop."
    assert message.endswith(f"\n  {advice}")


def test_a_loss_can_have_two_faults():
    class Unreduced(StartsFromAnotherInstance):
        def loss(self, batch, fwd_out):
            return fwd_out["prediction"]

    module = Unreduced()
    assert violations_of(module, **inputs_of(module)) == [
        "The loss has shape (8, 4), expected ().\n  Return one scalar, and log any other values.",
        NO_GRADIENT,
    ]


@pytest.mark.parametrize("make", [DetachesThePrediction, StartsFromAnotherInstance])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_module_is_checked(make, backend):
    module = torch.compile(make(), backend=backend)
    assert violations_of(module, **inputs_of(module)) == [NO_GRADIENT]
    torch._dynamo.reset()


def test_a_module_on_the_meta_device_is_checked_except_for_its_numbers():
    with torch.device("meta"):
        right, wrong, batch = Predictor(), DetachesThePrediction(), transitions()
        batch["loss_mask"] = torch.ones(8, dtype=torch.bool)
        assert check_module(right, batch=batch, fwd_out=right(batch)).is_meta
        assert violations_of(wrong, batch=batch, fwd_out=wrong(batch)) == [NO_GRADIENT]


def test_an_error_names_the_line_of_the_user_behind_decorators_and_before_torch():
    class Fails(Predictor):
        @torch.enable_grad()
        def compute_self_supervised_loss(self, *, batch, **arguments):
            return F.mse_loss(self.net(batch["obs"][:, :1]), batch["obs"])

    line = Fails.compute_self_supervised_loss.__wrapped__.__code__.co_firstlineno + 2
    with pytest.raises(AssertionError, match="raised RuntimeError: mat1 and mat2") as raised:
        check_module(Fails(), batch=transitions(), fwd_out={})
    assert str(raised.value).endswith(f"\n  at {__file__}:{line}")


def test_an_error_is_quoted_in_its_first_line():
    class MixesUpProbabilities(Predictor):
        def loss(self, batch, fwd_out):
            return torch.distributions.Categorical(
                probs=fwd_out["prediction"], validate_args=True
            ).probs.mean()

    module = MixesUpProbabilities()
    (message,) = violations_of(module, **inputs_of(module))
    assert message.endswith("but found invalid values:")


# Hints


class IgnoresTheMask(Predictor):
    def batch(self):
        return super().batch() | {"loss_mask": torch.arange(8) < 6}


class RunsItsNetwork(Predictor):
    def loss(self, batch, fwd_out):
        return super().loss(batch, {"prediction": self.net(batch["obs"])})


class HasNoOutput(RunsItsNetwork):
    def forward(self, batch):
        return {}


class KeepsNetworksElsewhere(Predictor):
    """Keeps them in a list, in a deque, in an object and in a closure."""

    def __init__(self):
        nn.Module.__init__(self)
        self.heads = [nn.Linear(OBS_SIZE, OBS_SIZE)]
        self.queue = collections.deque([nn.Linear(OBS_SIZE, OBS_SIZE, bias=False)])
        self.offset = collections.UserDict({"first": nn.Parameter(torch.zeros(()))})
        hidden = nn.Linear(OBS_SIZE, OBS_SIZE, bias=False)
        self.forward = lambda batch: {
            "prediction": self.heads[0](batch["obs"])
            + self.queue[0](batch["obs"])
            + self.offset["first"]
            + hidden(batch["obs"])
        }

    def loss(self, batch, fwd_out):
        return fwd_out["prediction"].square().mean()


class TrainsAnEncoderToo(Predictor):
    def batch(self):
        return super().batch() | {"encoded": nn.Linear(1, 1)(torch.ones(8, 1))}

    def loss(self, batch, fwd_out):
        return super().loss(batch, fwd_out) + batch["encoded"].square().mean()


class KeepsAState(Predictor):
    """Its next step fails in `backward()`."""

    state = 0.0

    def forward(self, batch):
        self.state = self.net(batch["obs"] + self.state)
        return {"prediction": 2.0 * self.state}


class KeepsAStateOfTheLoss(Predictor):
    state = 0.0

    def loss(self, batch, fwd_out):
        self.state = fwd_out["prediction"] * (1.0 + self.state)
        return self.state.square().mean()


class HoldsStates(Holder):
    def __init__(self):
        super().__init__()
        self.states = []

    def compute_self_supervised_loss(self, *, fwd_out, **arguments):
        self.states.append(2.0 * fwd_out["prediction"])
        return self.states[-1].square().mean()


class CountsItself(Predictor):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def loss(self, batch, fwd_out):
        self.count += 1
        return super().loss(batch, fwd_out)


class TrainsItsTarget(Predictor):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(OBS_SIZE, OBS_SIZE), nn.LayerNorm(OBS_SIZE))
        self.target = nn.Sequential(nn.Linear(OBS_SIZE, OBS_SIZE), nn.LayerNorm(OBS_SIZE))
        self.target.load_state_dict(self.net.state_dict())


def scoring(loss, **arguments):
    """Returns a class that computes its loss from the scores of four actions."""

    class Module(Predictor):
        def loss(self, batch, fwd_out):
            return loss(fwd_out["prediction"], batch["actions"], **arguments)

    return Module


def comparing(compare):
    """Returns a class that compares a column of predictions with a row of targets."""

    class Module(Predictor):
        def loss(self, batch, fwd_out):
            return compare(fwd_out["prediction"][:, :1], batch["new_obs"][:, 0])

    return Module


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


def kept_in(name):
    advice = "Detach it, or backward() fails in the next step that reads it."
    return f"The graph of this step is kept in {name}.\n  {advice}"


HINTS = {
    "parameters without a gradient": (
        lambda: with_parts(Predictor(), unused=nn.Sequential(*(nn.Linear(1, 1) for _ in range(4)))),
        "The loss has no gradient for unused.0.weight, unused.0.bias, unused.1.weight, "
        "unused.1.bias, unused.2.weight and 3 more.\n"
        "  Freeze them, or ignore this if another loss trains them.",
    ),
    "networks without an optimizer": (
        KeepsNetworksElsewhere,
        "module.parameters() does not contain heads[0].weight, heads[0].bias, queue[0].weight, "
        "offset['first'], a parameter of shape (4, 4).\n"
        "  No optimizer trains them. Keep networks in attributes, a torch.nn.ModuleList or\n"
        "  a torch.nn.ModuleDict.",
    ),
    "mask ignored": (
        IgnoresTheMask,
        "The loss has a gradient for masked rows of fwd_out['prediction'].\n"
        "  Leave rows out where batch['loss_mask'] is False, or detach them if they only\n"
        "  serve as targets.",
    ),
    "network run in the loss": (RunsItsNetwork, RUNS_ITS_NETWORK),
    "network run in the loss only": (HasNoOutput, RUNS_ITS_NETWORK),
    "encoder trained too": (
        TrainsAnEncoderToo,
        "The loss also trains the source of batch['encoded'].\n"
        "  Detach it, or ignore this if it is intentional.",
    ),
    "state of the forward pass kept": (KeepsAState, kept_in("state")),
    "state of the loss kept": (KeepsAStateOfTheLoss, kept_in("state")),
    "states held": (HoldsStates, kept_in("states[0]")),
    "buffer changed": (
        CountsItself,
        "The loss method changed the buffers count.\n"
        "  They also change when the loss is only evaluated. Update them in the training\n"
        "  loop, or evaluate a copy of the module.",
    ),
    "target trained": (
        TrainsItsTarget,
        "target starts as a copy of net, and the loss trains both.\n"
        "  If one is a target network, freeze it, or stop the gradient at its output.",
    ),
    "free nats": (returning(lambda loss: loss.clamp(min=100.0)), ALL_ZERO),
    "rounding": (returning(lambda loss: loss.round() + 1.0), ALL_ZERO),
    "softmax over one logit": (
        returning(lambda loss: loss.unsqueeze(0).softmax(dim=0).sum()),
        ALL_ZERO,
    ),
    "cross-entropy of a softmax": (
        scoring(lambda scores, actions: F.cross_entropy(scores.softmax(dim=-1), actions)),
        "cross_entropy or log_softmax is applied to the output of softmax.\n"
        "  Pass the logits: it applies softmax itself.",
    ),
    "cross-entropy of a softmax over time": (
        scoring(
            lambda scores, actions: F.cross_entropy(
                scores.softmax(dim=-1).unsqueeze(0).movedim(-1, 1), actions.unsqueeze(0)
            )
        ),
        "cross_entropy or log_softmax is applied to the output of softmax.\n"
        "  Pass the logits: it applies softmax itself.",
    ),
    "binary cross-entropy of a sigmoid": (
        scoring(
            lambda scores, actions: F.binary_cross_entropy_with_logits(
                scores.sigmoid().sum(dim=-1).sigmoid(), 1.0 * (actions > 0)
            )
        ),
        "binary_cross_entropy_with_logits is applied to the output of sigmoid.\n"
        "  Pass the logits: it applies sigmoid itself.",
    ),
    "column minus row": (comparing(lambda column, row: (column - row).square().mean()), BROADCAST),
    "row times column": (comparing(lambda column, row: (row * column).mean()), BROADCAST),
    "column and row selected": (
        comparing(lambda column, row: torch.where(row > 0, column, 0.0).mean()),
        BROADCAST,
    ),
}
for loss in (F.l1_loss, F.smooth_l1_loss, F.huber_loss):
    HINTS[loss.__name__] = (comparing(loss), BROADCAST)


@pytest.mark.parametrize(("make", "message"), HINTS.values(), ids=HINTS)
def test_a_hint_gets_one_message(make, message):
    module = make()
    assert hints_of(module, **inputs_of(module)) == [message]


def test_nothing_is_recorded_while_dynamo_traces(monkeypatch):
    module = comparing(lambda column, row: (column - row).square().mean())()
    monkeypatch.setattr(torch.compiler, "is_dynamo_compiling", lambda: True)
    assert hints_of(module, **inputs_of(module)) == []
