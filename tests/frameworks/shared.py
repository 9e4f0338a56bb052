"""A policy and a curiosity module with a batch to train on, and every way to reduce a value."""

from typing import get_args

import torch
from modules.icm import ICM
from torch import nn

from self_supervised_loss import Learner, MetricsLogger
from self_supervised_loss._metrics.settings import Reduce

OBS_SIZE, NUM_ACTIONS = 4, 3
SETTINGS = [{"reduce": reduce} for reduce in get_args(Reduce)] + [
    {"reduce": reduce, "window": 2} for reduce in get_args(Reduce) if reduce != "ema"
]


class Policy(nn.Linear):
    """Brings no loss."""

    def __init__(self):
        super().__init__(OBS_SIZE, NUM_ACTIONS)

    def forward(self, batch):
        return {"logits": super().forward(batch["obs"])}


class PolicyLearner(Learner[torch.Tensor]):
    """Has the loss of a policy."""

    def compute_loss_for_module(self, *, module_id, batch, fwd_out, **kwargs):
        loss = nn.functional.cross_entropy(fwd_out["logits"], batch["actions"])
        self.metrics.log_value((module_id, "loss"), loss)
        return loss


def make_modules():
    """Makes a policy and a curiosity module, with the same parameters each time."""
    torch.manual_seed(0)
    return nn.ModuleDict({"policy": Policy(), "icm": ICM(OBS_SIZE, NUM_ACTIONS)})


def transitions(batch_size):
    return {
        "obs": torch.randn(batch_size, OBS_SIZE),
        "new_obs": torch.randn(batch_size, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (batch_size,)),
    }


def compute_losses(learner, batch, **extras):
    """Computes the losses of the modules as they stand in the learner, wrapped or not."""
    fwd_out = {module_id: module(batch) for module_id, module in learner.module.items()}
    return learner.compute_losses(fwd_out=fwd_out, batch=dict.fromkeys(fwd_out, batch), **extras)


def reduced_in_every_way(values):
    metrics = MetricsLogger()
    for value in values:
        for setting in SETTINGS:
            metrics.log_dict({"value": value, "bool": value > 2.0}, key=str(setting), **setting)
    return metrics.reduce()
