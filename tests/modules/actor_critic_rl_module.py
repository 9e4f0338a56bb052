"""The policy of `actor_critic.py` as a module of Ray RLlib."""

from typing import Any

import torch
from modules.actor_critic import ActorCritic
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule


class ActorCriticRLModule(TorchRLModule, ValueFunctionAPI, ActorCritic):
    """Adapts ActorCritic to RLlib, which acts with it and computes the advantages."""

    def setup(self) -> None:
        """Builds the networks."""
        ActorCritic.__init__(self, self.observation_space.shape[0], int(self.action_space.n))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        return ActorCritic.forward(self, batch)

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """Returns the values of observations, from which RLlib computes advantages and targets."""
        return ActorCritic.forward(self, batch)["vf_preds"]
