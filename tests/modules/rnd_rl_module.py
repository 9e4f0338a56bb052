"""Random Network Distillation, from `rnd.py`, as a module of Ray RLlib's."""

from typing import Any

import torch
from modules.rnd import RND
from ray.rllib.core.rl_module.torch import TorchRLModule


class RNDRLModule(TorchRLModule, RND):
    """RLlib's part is to build the module from a spec, and to call its forward pass. The loss is
    RND's own."""

    def setup(self) -> None:
        """Builds the networks, with what the `model_config` says of them."""
        # Picked by name, since RLlib adds settings for the policy to the model_config.
        settings = {
            k: v for k, v in self.model_config.items() if k in ("feature_size", "hidden_size")
        }
        RND.__init__(self, self.observation_space.shape[0], **settings)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        return RND.forward(self, batch)
