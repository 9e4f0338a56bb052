"""Random Network Distillation (`rnd.py`) as a module of Ray RLlib."""

from typing import Any

import torch
from modules.rnd import RND
from ray.rllib.core.rl_module.torch import TorchRLModule


class RNDRLModule(TorchRLModule, RND):
    """Adapts RND to RLlib, which builds it from a spec and calls `_forward_train`."""

    def setup(self) -> None:
        """Builds the networks with the settings in `model_config`."""
        names = ("feature_size", "hidden_size")  # RLlib adds settings of the policy
        settings = {name: self.model_config[name] for name in names if name in self.model_config}
        RND.__init__(self, self.observation_space.shape[0], **settings)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        return RND.forward(self, batch)  # self.forward would call this method again
