"""A correct torch module, from which the tests of `check_module` derive unusual and broken ones."""

from typing import NamedTuple

import torch
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI

SIZE, NUM_ACTIONS = 4, 3


class State(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor


def transitions():
    torch.manual_seed(0)
    obs, new_obs = torch.randn(2, 8, SIZE)  # slices of one buffer
    return {
        "obs": obs,
        "new_obs": new_obs,
        "actions": torch.randint(NUM_ACTIONS, (8,)),
        "state": State(torch.ones(8), torch.ones(8)),
    }


def linear(**arguments):
    return nn.Linear(SIZE, SIZE, **arguments)


def predict(module, batch):
    return {"prediction": module.net(batch["obs"])}


def error(module, batch, fwd_out):
    return (fwd_out["prediction"] - module.target(batch["new_obs"])).square().mean()


class Predictor(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Predicts features of the next observation. Parts replace its networks or come on top."""

    batch = staticmethod(transitions)
    forward = predict
    loss = error

    def __init__(self, **parts):
        super().__init__()
        self.net, self.target = linear(), linear().requires_grad_(False)
        for name, part in parts.items():
            setattr(self, name, part)

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return self.loss(batch, fwd_out)


def predictor(base=Predictor, **methods):
    """Returns a class like `Predictor` with other methods."""
    return type("Module", (base,), methods)


def predicting(run):
    """Returns a class whose prediction is computed from the observations."""
    return predictor(forward=lambda self, batch: {"prediction": run(self, batch["obs"])})


def returning(compute):
    """Returns a class whose loss is computed from that of `Predictor`."""
    return predictor(loss=lambda *arguments: compute(error(*arguments)))


def changing(change):
    """Returns a class whose loss method changes something."""

    def loss(module, batch, fwd_out):
        value = error(module, batch, fwd_out)
        change(module, batch, fwd_out)
        return value

    return predictor(loss=loss)


def inputs_of(module):
    batch = module.batch()
    return {"batch": batch, "fwd_out": module(batch)}
