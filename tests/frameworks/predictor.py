"""A sound torch module, from which the tests of `check_module` derive broken ones."""

from typing import NamedTuple

import torch
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI

OBS_SIZE, NUM_ACTIONS = 4, 3


class Recurrent(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor


def transitions():
    torch.manual_seed(0)
    obs, new_obs = torch.randn(2, 8, OBS_SIZE)  # slices of one buffer
    return {
        "obs": obs,
        "new_obs": new_obs,
        "actions": torch.randint(NUM_ACTIONS, (8,)),
        "state": Recurrent(torch.ones(8), torch.ones(8)),
    }


def inputs_of(module):
    batch = module.batch()
    return {"batch": batch, "fwd_out": module(batch)}


class Predictor(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    """Predicts the next observation."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(OBS_SIZE, OBS_SIZE)
        self.target = nn.Linear(OBS_SIZE, OBS_SIZE).requires_grad_(False)

    def batch(self):
        return transitions()

    def forward(self, batch):
        return {"prediction": self.net(batch["obs"])}

    def loss(self, batch, fwd_out):
        return (fwd_out["prediction"] - self.target(batch["new_obs"])).square().mean()

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return self.loss(batch, fwd_out)


def with_parts(module, **parts):
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def returning(compute):
    """Returns a class whose loss is computed from that of `Predictor`."""

    class Module(Predictor):
        def loss(self, batch, fwd_out):
            return compute(super().loss(batch, fwd_out))

    return Module


def changing(change):
    """Returns a class whose loss method changes something."""

    class Module(Predictor):
        def loss(self, batch, fwd_out):
            loss = super().loss(batch, fwd_out)
            change(self, batch, fwd_out)
            return loss

    return Module
