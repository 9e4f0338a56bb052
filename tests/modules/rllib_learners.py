"""What a module beside the policy needs on Ray RLlib: mix-ins for RLlib's learners. Copy this file.

RLlib gives data to policies alone. A module beside them gets none, and is then silently not
trained. Mix a class of this file into the learner of your algorithm, before RLlib's class:

    class PPOLearner(ModulesBeside, PPOTorchLearner):
        pass

    config.learners(learner_class=PPOLearner)

| algorithm                    | mix in                | next observations
| | PPO, APPO, IMPALA, BC, MARWIL| `ModulesBeside`       | ask for them:
`learner_connector=add_next_obs`     | | DQN                          | `ModulesBeside`       | are
in the batch | | SAC, TQC, IQL, CQL           | `ModulesBesideCritic` | are in the batch
|
"""

from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import AddNextObservationsFromEpisodesToTrainBatch
from ray.rllib.core import DEFAULT_MODULE_ID


class ModulesBeside:
    """Trains modules beside the policy on the policy's data."""

    def compute_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Runs the modules that RLlib had no data for, and computes their losses with those of the
        policies."""
        return super().compute_losses(**self.with_modules_beside(fwd_out, batch))

    def with_modules_beside(
        self, fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Returns `fwd_out` and `batch` with those of the modules beside the policies."""
        data = {
            module_id: self.data_beside(module_id, batch)
            for module_id in self.modules_beside(batch)
        }
        outputs = {
            module_id: self.module[module_id].forward_train(data[module_id]) for module_id in data
        }
        return {"fwd_out": {**fwd_out, **outputs}, "batch": {**batch, **data}}

    def modules_beside(self, batch: dict[str, Any]) -> list[str]:
        """Returns the IDs of the modules that are to be trained, but are no policies, and that have
        no data yet."""
        ids = [
            module_id
            for module_id in self.module.keys()
            if module_id not in {*batch, *self.config.policies}
        ]
        return [module_id for module_id in ids if self.should_module_be_updated(module_id, batch)]

    def data_beside(self, module_id: str, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Returns what a module beside the policy is trained on. Override it where there are
        several policies."""
        return batch[DEFAULT_MODULE_ID]


class ModulesBesideCritic(ModulesBeside):
    """The same for SAC, TQC, IQL and CQL, whose learners take each module for a policy with a
    critic."""

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        """Gives a module beside the policies one optimizer, of its parameters that are not frozen."""
        if module_id in self.config.policies:
            return super().configure_optimizers_for_module(module_id=module_id, config=config)
        params = [param for param in self.module[module_id].parameters() if param.requires_grad]
        self.register_optimizer(
            module_id=module_id,
            optimizer_name="own",
            optimizer=torch.optim.Adam(params),
            params=params,
            lr_or_lr_schedule=config.critic_lr,
        )

    def compute_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Also keeps each loss where these learners look for the losses of an optimizer."""
        losses = super().compute_losses(fwd_out=fwd_out, batch=batch)
        for module_id in losses.keys() - self.config.policies:
            self._temp_losses[module_id, "own_loss"] = losses[module_id]
        return losses


class ModulesBesideOffline(ModulesBeside):
    """The same for `OfflineEvaluationRunner`, as
    `config.evaluation(offline_eval_runner_class=...)`."""

    def compute_eval_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Evaluates the modules that RLlib had no data for with the policies."""
        return super().compute_eval_losses(**self.with_modules_beside(fwd_out, batch))

    def should_module_be_updated(self, module_id: str, multi_agent_batch: Any = None) -> bool:
        """Returns whether a module is to be evaluated."""
        return True


def add_next_obs(observation_space: Any, action_space: Any) -> ConnectorV2:
    """Adds the next observations, `"new_obs"`, to the batch, as
    `config.learners(learner_connector=add_next_obs)`."""
    return AddNextObservationsFromEpisodesToTrainBatch()
