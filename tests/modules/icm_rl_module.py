"""The curiosity module of `icm.py` as a module of Ray RLlib's."""

from typing import Any

import torch
from modules.icm import ICM
from ray.rllib.core.rl_module.torch import TorchRLModule


class ICMRLModule(TorchRLModule, ICM):
    """RLlib's part is to build the module from a spec, and to call its forward pass. The loss is
    ICM's own."""

    def setup(self) -> None:
        """Builds the networks, with what the `model_config` says of them."""
        # Picked by name, since RLlib adds settings for the policy to the model_config.
        settings = {
            k: v
            for k, v in self.model_config.items()
            if k in ("feature_size", "hidden_size", "beta")
        }
        ICM.__init__(self, self.observation_space.shape[0], int(self.action_space.n), **settings)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        return ICM.forward(self, batch)
