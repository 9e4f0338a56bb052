"""Auxiliary modules on Ray RLlib: modules that are trained beside the policies, on their data.

RLlib gives data to policies alone. An auxiliary module, such as a curiosity model, gets none, and
is then silently not trained. Mix `AuxiliaryModules` into the learner of your algorithm, before
RLlib's class:

    class PPOLearner(AuxiliaryModules, PPOTorchLearner):
        pass

    config.learners(learner_class=PPOLearner)

It is the same for PPO, APPO, IMPALA, DQN, SAC, TQC, BC, MARWIL, IQL and CQL.

This file follows the inside of RLlib, which changes, so it is no part of what the package promises
to keep stable.
"""

from typing import Any

from self_supervised_loss._api import ModuleID
from self_supervised_loss._wrappers import remedy_message

try:
    from ray.rllib.connectors.connector_v2 import ConnectorV2
    from ray.rllib.connectors.learner import AddNextObservationsFromEpisodesToTrainBatch
    from ray.rllib.core.learner.torch.torch_learner import TorchLearner
    from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
    from ray.rllib.core.rl_module.torch import TorchRLModule
except ImportError as _error:
    raise ImportError(
        f"self_supervised_loss.rllib needs Ray RLlib, but {_error}. "
        "Write: pip install 'self-supervised-loss[rllib]'"
    ) from _error

__all__ = ["AuxiliaryModules", "AuxiliaryModulesOffline", "add_next_obs"]


class _DataForModules:
    """What the mix-ins have in common: which modules are auxiliary, and what they learn from."""

    module: Any  # RLlib's MultiRLModule
    config: Any  # RLlib's AlgorithmConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuses a class whose mix-in comes too late to be called."""
        super().__init_subclass__(**kwargs)
        modules = (__name__, "ray.rllib.")
        first, *others = (base for base in cls.__mro__ if base.__module__.startswith(modules))
        if first.__module__ != __name__:
            mix_in = next(base for base in others if base.__module__ == __name__)
            raise TypeError(
                f"{mix_in.__name__} has no effect behind {first.__name__}. "
                f"Write class {cls.__name__}({mix_in.__name__}, {first.__name__})."
            )

    def data_for_module(
        self, module_id: ModuleID, batch: dict[ModuleID, dict[str, Any]]
    ) -> dict[str, Any]:
        """Returns what an auxiliary module learns from. Override it if there are several policies.

        Args:
            module_id: The ID of the auxiliary module.
            batch: The data of the policies, by module ID.

        Returns:
            Columns by name, here those of the only policy. The module gets a copy of the dict.

        Raises:
            ValueError: If there are several policies.
        """
        return batch[self._only_policy(module_id)]

    def _only_policy(self, module_id: ModuleID) -> ModuleID:
        policies: list[ModuleID]
        policies = [policy for policy in self.config.policies if not self._is_auxiliary(policy)]
        if len(policies) == 1:
            return policies[0]
        raise ValueError(
            f"module {module_id!r} could learn from each of the policies {sorted(policies)}. "
            f"Override {type(self).__name__}.data_for_module(module_id, batch) to return its data."
        )

    def _is_auxiliary(self, module_id: ModuleID) -> bool:
        module = self.module[module_id].unwrapped()
        is_policy = module_id in self.config.policies and _can_act(module)
        return isinstance(module, RLlibAPI) and not is_policy

    def _with_auxiliary_modules(
        self, module_ids: list[ModuleID], fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Returns `fwd_out` and `batch` with those of the modules that have no data yet."""
        data = {
            module_id: {**self.data_for_module(module_id, batch)}
            for module_id in module_ids
            if module_id not in batch and self._is_auxiliary(module_id)
        }
        outputs = {
            module_id: self.module[module_id].forward_train(data[module_id]) for module_id in data
        }
        return {"fwd_out": {**fwd_out, **outputs}, "batch": {**batch, **data}}


class AuxiliaryModules(_DataForModules, TorchLearner):  # type: ignore[misc]
    """Mixed into a learner of RLlib's: trains auxiliary modules on the data of the policies.

    A module is auxiliary if it implements the API and is no policy. A policy is listed in
    `config.multi_agent(policies=...)`, and has a forward pass for more than training. An auxiliary
    module has RLlib's default optimizer, with the `lr` of its configuration or, where an algorithm
    has none, the `critic_lr`.
    """

    _temp_losses: dict[tuple[ModuleID, str], Any]  # in the learners of SAC, TQC, IQL and CQL alone

    def build(self) -> None:
        """Builds the learner. It refuses auxiliary modules that would not be trained."""
        super().build()
        self._check_training()

    def add_module(self, **kwargs: Any) -> Any:
        """Adds a module to a learner that is built. It refuses the same."""
        spec = super().add_module(**kwargs)
        self._check_training()
        return spec

    def should_module_be_updated(self, module_id: ModuleID, multi_agent_batch: Any = None) -> bool:
        """Returns whether a module is trained. A list of `policies_to_train` is about policies."""
        if self._is_auxiliary(module_id) and not callable(self.config.policies_to_train):
            return True
        return bool(super().should_module_be_updated(module_id, multi_agent_batch))

    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        """Gives an auxiliary module the default optimizer, and a policy that of its algorithm."""
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
        """Computes the gradients of all modules, in the same order in each learner."""
        gradients: dict[Any, Any]
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
        # SAC, TQC, IQL and CQL keep a loss for each optimizer of a policy, and walk a set of module
        # IDs. The order of a set differs between processes, so that learners would average the
        # gradients of one module with those of another.
        auxiliary = {
            module_id: loss
            for module_id, loss in loss_per_module.items()
            if self._is_auxiliary(module_id)
        }
        gradients: dict[Any, Any] = TorchLearner.compute_gradients(self, auxiliary)
        losses = self._temp_losses
        for module_id in sorted(loss_per_module.keys() - auxiliary.keys()):
            self._temp_losses = {key: loss for key, loss in losses.items() if key[0] == module_id}
            loss = {module_id: loss_per_module[module_id]}
            gradients |= super().compute_gradients(loss, **kwargs)
        return gradients

    def _check_module(self, module_id: ModuleID) -> None:
        module = self.module[module_id].unwrapped()
        name = f"module {module_id!r} ({type(module).__name__})"
        if hasattr(module, "compute_self_supervised_loss") and not isinstance(module, RLlibAPI):
            raise TypeError(
                f"{name} does not implement the API in this process. {remedy_message(module)} "
                "Do so in the file of the class, since a registration holds in one process."
            )
        is_learner_only = self.module.rl_module_specs[module_id].learner_only
        if is_learner_only and module_id in self.config.policies and _can_act(module):
            raise ValueError(
                f"{name} is learner_only, but also listed among the policies. "
                "Leave it out of config.multi_agent(policies=...)."
            )

    def _check_training(self) -> None:
        for module_id in filter(self._is_auxiliary, self.module.keys()):
            if type(self).data_for_module is _DataForModules.data_for_module:
                self._only_policy(module_id)
            self._check_optimizers(module_id)

    def _check_optimizers(self, module_id: ModuleID) -> None:
        names = [
            name
            for name, param in self.module[module_id].unwrapped().named_parameters()
            if param.requires_grad and self.get_param_ref(param) not in self._params
        ]
        if names:
            raise ValueError(
                f"parameters of module {module_id!r} have no optimizer: {', '.join(names)}. "
                f"{type(self).__name__}.configure_optimizers_for_module must register one, as "
                "super().configure_optimizers_for_module does."
            )

    def _check_gradients(self, module_id: ModuleID) -> None:
        module = self.module[module_id]
        if not getattr(module, "require_backward_grad_sync", False):
            return  # it is not in DDP, which waits for each gradient
        names = [
            name
            for name, param in module.unwrapped().named_parameters()
            if param.requires_grad and param.grad is None
        ]
        if names:
            raise ValueError(
                f"parameters of module {module_id!r} have no part in its loss, which several "
                f"learners cannot train: {', '.join(names)}. "
                "Freeze them with requires_grad_(False)."
            )


class AuxiliaryModulesOffline(_DataForModules):
    """Mixed into RLlib's `OfflineEvaluationRunner`: evaluates auxiliary modules with the policies.

    It comes before RLlib's class, and the whole into the configuration:

        class Runner(AuxiliaryModulesOffline, OfflineEvaluationRunner):
            pass

        config.evaluation(offline_eval_runner_class=Runner)
    """

    def compute_eval_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, Any]:
        """Runs the auxiliary modules too, and computes their losses with those of the policies."""
        arguments = self._with_auxiliary_modules([*self.module.keys()], fwd_out, batch)
        return super().compute_eval_losses(**arguments)  # type: ignore[misc, no-any-return]


def add_next_obs(observation_space: Any, action_space: Any) -> ConnectorV2:
    """Adds the next observations, `"new_obs"`, to the batch.

    It comes into the configuration: `config.learners(learner_connector=add_next_obs)`.
    """
    return AddNextObservationsFromEpisodesToTrainBatch()


def _can_act(module: Any) -> bool:
    names = ("_forward", "_forward_inference", "_forward_exploration")
    return any(getattr(type(module), name) is not getattr(TorchRLModule, name) for name in names)
