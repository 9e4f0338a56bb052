"""Auxiliary modules on Ray RLlib: modules that are trained beside the policies, on their data.

RLlib gives data to policies alone. An auxiliary module, one that implements the API and does not act, such as a
curiosity model, gets none and is silently not trained. Mix `AuxiliaryModules` into the learner of your algorithm,
before RLlib's class:

    class PPOLearner(AuxiliaryModules, PPOTorchLearner):
        pass

    config.learners(learner_class=PPOLearner)

It is the same for PPO, APPO, IMPALA, DQN, SAC, TQC, BC, MARWIL, IQL and CQL. Names and behaviour follow the inside of
RLlib, which changes, so that this file is no part of what the package promises to keep stable.
"""

from typing import Any

from self_supervised_loss._api import ModuleID

try:
    from ray.rllib.connectors.connector_v2 import ConnectorV2
    from ray.rllib.connectors.learner import AddNextObservationsFromEpisodesToTrainBatch
    from ray.rllib.core.learner.torch.torch_learner import TorchLearner
    from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
    from ray.rllib.core.rl_module.torch import TorchRLModule
except ImportError as error:
    raise ImportError(
        f"self_supervised_loss.rllib needs Ray RLlib, but {error}. "
        "Install it with: pip install 'self-supervised-loss[rllib]'"
    ) from error

__all__ = ["AuxiliaryModules", "AuxiliaryModulesOffline", "add_next_obs"]


class _AuxiliaryData:
    """What the mix-ins have in common: which modules are auxiliary, and what they learn from."""

    module: Any  # RLlib's MultiRLModule
    config: Any  # RLlib's AlgorithmConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuses a class whose methods would never be called."""
        super().__init_subclass__(**kwargs)
        first = next(
            base for base in cls.__mro__ if base.__module__.startswith((__name__, "ray.rllib."))
        )
        if first.__module__ != __name__:
            raise TypeError(
                f"{cls.__name__} has no effect, since {first.__name__} comes before the mix-in. Turn them round: "
                f"class {cls.__name__}(AuxiliaryModules, {first.__name__})"
            )

    def data_for_module(
        self, module_id: ModuleID, batch: dict[ModuleID, dict[str, Any]]
    ) -> dict[str, Any]:
        """Returns what an auxiliary module learns from. Override it where there are several policies.

        Args:
            module_id: The ID of the auxiliary module.
            batch: The data of the policies, by module ID.

        Returns:
            The data of the policy. The module gets a copy of this dict.

        Raises:
            ValueError: If there are several policies.
        """
        policies = [policy for policy in self.config.policies if not self._is_auxiliary(policy)]
        if len(policies) != 1:
            raise ValueError(
                f"module {module_id!r} could learn from any of the policies {policies}. "
                f"Override {type(self).__name__}.data_for_module(module_id, batch) to return its data."
            )
        return batch[policies[0]]

    def _is_auxiliary(self, module_id: ModuleID) -> bool:
        module = self.module[module_id].unwrapped()
        is_policy = module_id in self.config.policies and not module.learner_only
        return isinstance(module, RLlibAPI) and not is_policy

    def _with_auxiliary_modules(
        self, module_ids: list[ModuleID], fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Returns `fwd_out` and `batch` with those of the auxiliary modules that have no data yet."""
        data = {
            module_id: {**self.data_for_module(module_id, batch)}
            for module_id in module_ids
            if module_id not in batch and self._is_auxiliary(module_id)
        }
        outputs = {
            module_id: self.module[module_id].forward_train(data[module_id]) for module_id in data
        }
        return {"fwd_out": {**fwd_out, **outputs}, "batch": {**batch, **data}}


class AuxiliaryModules(_AuxiliaryData, TorchLearner):  # type: ignore[misc]
    """Mixed into a learner of RLlib's: trains the modules beside the policies on the policies' data.

    A module is auxiliary if it implements the API and is no policy: it is not among
    `config.multi_agent(policies=...)`, or its `RLModuleSpec` says `learner_only=True`. It has RLlib's default optimizer,
    Adam with the learning rate `lr` of its own configuration, which is that of the critic where an algorithm has no `lr`.
    """

    _temp_losses: dict[tuple[ModuleID, str], Any]  # in the learners of SAC, TQC, IQL and CQL alone

    def build(self) -> None:
        """Builds the learner, and refuses auxiliary modules that would not be trained."""
        super().build()
        for module_id in filter(self._is_auxiliary, self.module.keys()):
            if type(self).data_for_module is _AuxiliaryData.data_for_module:
                self.data_for_module(module_id, dict.fromkeys(self.config.policies, {}))
            self._check_optimizers(module_id)

    def should_module_be_updated(self, module_id: ModuleID, multi_agent_batch: Any = None) -> bool:
        """Returns whether a module is trained. A list in `policies_to_train` is about policies alone."""
        if self._is_auxiliary(module_id) and not callable(self.config.policies_to_train):
            return True
        return bool(super().should_module_be_updated(module_id, multi_agent_batch))

    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        """Gives an auxiliary module the default optimizer, whatever the algorithm gives its policies."""
        self._check_module(module_id)
        if not self._is_auxiliary(module_id):
            super().configure_optimizers_for_module(module_id=module_id, config=config)
            return
        if config.lr is None:  # in SAC, TQC, IQL and CQL
            config = config.copy(copy_frozen=False)
            config.lr = config.critic_lr
        TorchLearner.configure_optimizers_for_module(self, module_id=module_id, config=config)

    def compute_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Runs the auxiliary modules too, and computes their losses with those of the policies."""
        module_ids = [
            module_id
            for module_id in self.module.keys()
            if self.should_module_be_updated(module_id, batch)
        ]
        arguments = self._with_auxiliary_modules(module_ids, fwd_out, batch)
        return super().compute_losses(**arguments, **kwargs)  # type: ignore[no-any-return]

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> dict[Any, Any]:
        """Computes the gradients, module by module in the same order in each learner."""
        if hasattr(self, "_temp_losses"):
            gradients = self._compute_gradients_in_order(loss_per_module, **kwargs)
        else:
            gradients = super().compute_gradients(loss_per_module, **kwargs)
        for module_id in filter(self._is_auxiliary, loss_per_module):
            self._check_gradients(module_id)
        return gradients

    def _compute_gradients_in_order(
        self, loss_per_module: dict[str, Any], **kwargs: Any
    ) -> dict[Any, Any]:
        """Does it for SAC, TQC, IQL and CQL, which keep a loss for each optimizer of a policy.

        They walk a set of module IDs. Its order is another in each process, so that several learners would average the
        gradients of one module with those of another.
        """
        auxiliary = {
            module_id: loss
            for module_id, loss in loss_per_module.items()
            if self._is_auxiliary(module_id)
        }
        gradients = TorchLearner.compute_gradients(self, auxiliary)
        losses = self._temp_losses
        for module_id in sorted(loss_per_module.keys() - auxiliary.keys()):
            self._temp_losses = {key: loss for key, loss in losses.items() if key[0] == module_id}
            gradients |= super().compute_gradients(
                {module_id: loss_per_module[module_id]}, **kwargs
            )
        return gradients  # type: ignore[no-any-return]

    def _check_module(self, module_id: ModuleID) -> None:
        module = self.module[module_id].unwrapped()
        name = f"module {module_id!r} ({type(module).__name__})"
        if not hasattr(module, "compute_self_supervised_loss"):
            return
        if not isinstance(module, RLlibAPI):
            raise TypeError(
                f"{name} does not implement SelfSupervisedLossAPI in this process. Derive its class from it, or "
                "register the class in its own file, since a registration holds in one process."
            )
        if not self._is_auxiliary(module_id) and not _can_act(module):
            raise ValueError(
                f"{name} is among the policies, but has a forward pass for training alone. "
                "Set learner_only=True in its RLModuleSpec, or leave it out of config.multi_agent(policies=...)."
            )

    def _check_optimizers(self, module_id: ModuleID) -> None:
        names = [
            name
            for name, param in self.module[module_id].unwrapped().named_parameters()
            if param.requires_grad and self.get_param_ref(param) not in self._params
        ]
        if names:
            raise ValueError(
                f"parameters of module {module_id!r} have no optimizer: {', '.join(names)}. Let "
                f"{type(self).__name__} call super().configure_optimizers_for_module for this module, or freeze them."
            )

    def _check_gradients(self, module_id: ModuleID) -> None:
        module = self.module[module_id]
        waits = getattr(module, "require_backward_grad_sync", False)  # for each gradient, as DDP
        if not waits or module.find_unused_parameters:
            return
        names = [
            name
            for name, param in module.unwrapped().named_parameters()
            if param.requires_grad and param.grad is None
        ]
        if names:
            raise ValueError(
                f"parameters of module {module_id!r} have no part in its loss, so that the learners would wait for "
                f"their gradients: {', '.join(names)}. Freeze them with requires_grad_(False), or set "
                'config.framework(torch_ddp_kwargs={"find_unused_parameters": True}).'
            )


class AuxiliaryModulesOffline(_AuxiliaryData):
    """The same for `OfflineEvaluationRunner`, as `config.evaluation(offline_eval_runner_class=...)`."""

    def compute_eval_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, Any]:
        """Evaluates the auxiliary modules too."""
        arguments = self._with_auxiliary_modules([*self.module.keys()], fwd_out, batch)
        return super().compute_eval_losses(**arguments)  # type: ignore[misc, no-any-return]


def add_next_obs(observation_space: Any, action_space: Any) -> ConnectorV2:
    """Adds the next observations, `"new_obs"`, to the batch, as `config.learners(learner_connector=add_next_obs)`."""
    return AddNextObservationsFromEpisodesToTrainBatch()


def _can_act(module: Any) -> bool:
    methods = ("_forward", "_forward_inference", "_forward_exploration")
    return any(
        getattr(type(module), method) is not getattr(TorchRLModule, method) for method in methods
    )
