"""Modules that have a loss but do not implement the API, like modules of another package."""

import torch
from ray.rllib.core.rl_module.torch import TorchRLModule

from self_supervised_loss import SelfSupervisedLossAPI


class Autoencoder(TorchRLModule):
    def setup(self):
        self.encoder = torch.nn.Linear(self.observation_space.shape[0], 2)
        self.decoder = torch.nn.Linear(2, self.observation_space.shape[0])

    def _forward_train(self, batch, **kwargs):
        return {"reconstruction": self.decoder(self.encoder(batch["obs"]))}

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return torch.nn.functional.mse_loss(fwd_out["reconstruction"], batch["obs"])


class RegisteredHere(Autoencoder):
    """Registered in its file, which runs in every process that imports the class."""


SelfSupervisedLossAPI.register(RegisteredHere)
