"""Trains auxiliary modules with Ray RLlib: modules that learn from the data of the policies.

RLlib gives data to policies only. An auxiliary module, such as a curiosity model, would silently
stay untrained. Mix `AuxiliaryModules` into the learner of your algorithm, before RLlib's class:

    class PPOLearner(AuxiliaryModules, PPOTorchLearner):
        pass

    config.learners(learner_class=PPOLearner)

The same works for PPO, APPO, IMPALA, DQN, SAC, TQC, BC, MARWIL, IQL and CQL.

This file relies on RLlib's internals, so it is not part of the stable API.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, ClassVar

from self_supervised_loss._api import ModuleID
from self_supervised_loss._wrappers import remedy_message

try:
    import ray

    if tuple(map(int, ray.__version__.split(".")[:2])) < (2, 53):
        raise ImportError(f"this is Ray {ray.__version__}")

    import torch
    from ray.rllib.connectors.connector_v2 import ConnectorV2
    from ray.rllib.connectors.learner import AddNextObservationsFromEpisodesToTrainBatch
    from ray.rllib.core.learner.torch.torch_learner import TorchLearner
    from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
    from ray.rllib.core.rl_module.torch import TorchRLModule
    from ray.rllib.offline.offline_evaluation_runner import OfflineEvaluationRunner
    from ray.rllib.policy.sample_batch import MultiAgentBatch
except ImportError as _error:
    raise ImportError(
        f"self_supervised_loss.rllib requires RLlib from Ray 2.53 or later, but {_error}. "
        "Write: pip install 'ray[rllib]>=2.53'"
    ) from _error

__all__ = ["AuxiliaryModules", "AuxiliaryModulesOffline", "add_next_obs"]


class _AuxiliaryData:
    """Base of the mix-ins: determines which modules are auxiliary, and collects their data."""

    _rllib_class: ClassVar[type]  # the mix-in is for its subclasses
    module: Any  # RLlib's MultiRLModule
    config: Any  # RLlib's AlgorithmConfig

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Rejects a class that combines the mix-in with a wrong class, or in the wrong order."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:
            return
        first = next(filter(_is_library_class, cls.__mro__))
        bases = [base for base in cls.__bases__ if any(map(_is_library_class, base.__mro__))]
        are_right = all(issubclass(base, (_AuxiliaryData, cls._rllib_class)) for base in bases)
        if first.__module__ != __name__ or not are_right:
            raise TypeError(_wrong_bases_message(cls))

    def data_for_module(
        self, module_id: ModuleID, batch: dict[ModuleID, dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Returns the data of an auxiliary module. Override it if there are several policies.

        Args:
            module_id: The ID of the auxiliary module.
            batch: The data of each policy by module ID. A policy whose agents took no step is
                missing.

        Returns:
            Columns by name, by default those of the only policy. The module gets a copy of the
            dict. None leaves the module out of this batch, which several learners do not support.

        Raises:
            ValueError: If there are several policies.
        """
        return batch[self._only_policy(module_id)]

    def _only_policy(self, module_id: ModuleID) -> ModuleID:
        policies = [policy for policy in self.config.policies if not self._is_auxiliary(policy)]
        if len(policies) != 1:
            raise ValueError(_only_policy_message(module_id, policies))
        policy: ModuleID = policies[0]
        return policy

    def _auxiliary_ids(self) -> list[ModuleID]:
        return sorted(filter(self._is_auxiliary, self.module.keys()))

    def _is_auxiliary(self, module_id: ModuleID) -> bool:
        module = self.module[module_id].unwrapped()
        is_listed = module_id in self.config.policies and not self._is_learner_only(module_id)
        return isinstance(module, RLlibAPI) and not (is_listed and _can_act(module))

    def _is_learner_only(self, module_id: ModuleID) -> bool:
        return bool(self.module.rl_module_specs[module_id].learner_only)

    def _collect_data(
        self, module_ids: Iterable[ModuleID], batch: dict[ModuleID, Any]
    ) -> dict[ModuleID, "_Columns"]:
        data = {}
        for name in module_ids:
            columns = batch[name] if name in batch else self.data_for_module(name, batch)
            if columns is not None:
                data[name] = _Columns(name, columns)
        return data


class AuxiliaryModules(_AuxiliaryData, TorchLearner):  # type: ignore[misc]
    """Mixed into one of RLlib's learners: trains auxiliary modules on the data of the policies.

    A module is auxiliary if it implements the API and is not a policy. A policy is listed in
    `config.multi_agent(policies=...)`, can act, and is not `learner_only`.

    An auxiliary module has an Adam optimizer, with the `lr` of its configuration or, in algorithms
    without one, the `critic_lr`. A shared parameter belongs to one optimizer: to a policy's if a
    policy has it, otherwise to that of the first auxiliary module in the order of module IDs. Its
    gradient is the sum over all losses.
    """

    _rllib_class = TorchLearner
    _temp_losses: dict[tuple[ModuleID, str], Any]  # only in the learners of SAC, TQC, IQL and CQL

    def build(self) -> None:
        """Builds the learner, and checks that its auxiliary modules can be trained."""
        for module_id, spec in getattr(self._module_spec, "rl_module_specs", {}).items():
            _check_space(module_id, spec)
        self._learner_only: dict[ModuleID, bool] = {}  # which RLlib drops from the specs
        super().build()
        self._check_auxiliary_modules()

    def add_module(self, *, module_id: ModuleID, module_spec: Any, **kwargs: Any) -> Any:
        """Adds a module to a built learner, with the same checks."""
        _check_space(module_id, module_spec)
        self._learner_only[module_id] = module_spec.learner_only
        super().add_module(module_id=module_id, module_spec=module_spec, **kwargs)
        self._check_auxiliary_modules()
        self._module_spec = self.config.rl_module_spec
        for name, spec in self._module_spec.rl_module_specs.items():
            spec.learner_only = self._is_learner_only(name)
        self.config.rl_module(rl_module_spec=self._module_spec)
        return self._module_spec

    def configure_optimizers(self) -> None:
        """Configures the optimizers of policies first, so that shared parameters are theirs."""
        specs = self.module.rl_module_specs
        self._learner_only = {module_id: specs[module_id].learner_only for module_id in specs}
        auxiliary = self._auxiliary_ids()
        policies = [module_id for module_id in self.module.keys() if module_id not in auxiliary]
        for module_id in policies + auxiliary:
            if self.rl_module_is_compatible(self.module[module_id]):
                config = self.config.get_config_for_module(module_id)
                self.configure_optimizers_for_module(module_id=module_id, config=config)

    def configure_optimizers_for_module(self, module_id: ModuleID, config: Any = None) -> None:
        """Gives an auxiliary module an optimizer, and a policy the optimizers of its algorithm."""
        module = self.module[module_id].unwrapped()
        if hasattr(module, "compute_self_supervised_loss") and not isinstance(module, RLlibAPI):
            raise TypeError(_not_registered_message(module_id, module))
        if not self._is_auxiliary(module_id):
            super().configure_optimizers_for_module(module_id=module_id, config=config)
            return
        params = self.get_parameters(module)
        if not params:
            raise ValueError(_no_parameters_message(module_id, module))
        params = [param for param in params if param not in self._params]
        if params:  # otherwise all are shared
            self.register_optimizer(
                module_id=module_id,
                optimizer=torch.optim.Adam(params),
                params=params,
                lr_or_lr_schedule=config.critic_lr if config.lr is None else config.lr,
            )

    def should_module_be_updated(self, module_id: ModuleID, multi_agent_batch: Any = None) -> bool:
        """Returns True, so that RLlib keeps the data of policies that are not trained.

        Auxiliary modules may learn from it. `_update` leaves out these policies later.
        """
        return True

    def _is_trained(self, module_id: ModuleID, batch: Any) -> bool:
        if self._is_auxiliary(module_id) and not callable(self.config.policies_to_train):
            return True  # a list is about policies
        return bool(super().should_module_be_updated(module_id, batch))

    def _is_learner_only(self, module_id: ModuleID) -> bool:
        return self._learner_only.get(module_id, False)

    def _update(self, batch: dict[ModuleID, Any], *args: Any, **kwargs: Any) -> Any:
        """Trains auxiliary modules, and the policies in `policies_to_train`, on a minibatch."""
        whole = MultiAgentBatch(batch, env_steps=max(map(len, batch.values()), default=0))
        trained = [name for name in self.module.keys() if self._is_trained(name, whole)]
        data = self._collect_data(filter(self._is_auxiliary, trained), batch)
        of_policies = {name: columns for name, columns in batch.items() if name in trained}
        return super()._update(of_policies | data, *args, **kwargs)

    def _collect_data(
        self, module_ids: Iterable[ModuleID], batch: dict[ModuleID, Any]
    ) -> dict[ModuleID, "_Columns"]:
        module_ids, data = [*module_ids], {}
        try:
            data = super()._collect_data(module_ids, batch)
        finally:  # also after an error, so that no learner waits for the gradients of this one
            if self.distributed and not self._has_default_data():
                self._check_all_have_data({*module_ids} - data.keys())
        return data

    def compute_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Computes the loss of each module, and checks that it can be trained on."""
        losses: dict[str, Any] = super().compute_losses(fwd_out=fwd_out, batch=batch, **kwargs)
        for module_id, loss in losses.items():
            module = self.module[module_id].unwrapped()
            if isinstance(module, RLlibAPI):
                _check_loss(loss, module_id, module)
        return losses

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> dict[Any, Any]:
        """Computes the gradient of each parameter, summed over all losses."""
        gradients: dict[Any, Any]
        if hasattr(self, "_temp_losses"):
            gradients = self._compute_gradients_by_optimizer(loss_per_module, **kwargs)
        else:
            gradients = super().compute_gradients(loss_per_module, **kwargs)
        if self.distributed:
            for module_id in filter(self._is_auxiliary, loss_per_module):
                self._check_gradients(module_id)
        return gradients

    def _compute_gradients_by_optimizer(
        self, loss_per_module: dict[str, Any], **kwargs: Any
    ) -> dict[Any, Any]:
        """Computes gradients in SAC, TQC, IQL and CQL, which keep a loss for each optimizer.

        RLlib's method gets one policy at a time, since it iterates over a set of module IDs, whose
        order differs between processes.
        """
        for optimizer in self._optimizer_parameters:  # also of policies without data
            optimizer.zero_grad(set_to_none=True)
        self._join_auxiliary_losses(loss_per_module)
        gradients: dict[Any, Any] = {}
        temp_losses = self._temp_losses
        for module_id in sorted(loss_per_module.keys() - self._auxiliary_ids()):
            self._temp_losses = {
                key: temp_losses[key] for key in temp_losses if key[0] == module_id
            }
            loss = {module_id: loss_per_module[module_id]}
            gradients |= super().compute_gradients(loss, **kwargs)
        return {ref: param.grad for ref, param in self._params.items()} | gradients

    def _join_auxiliary_losses(self, loss_per_module: dict[str, Any]) -> None:
        """Adds the losses of auxiliary modules to a policy's, or computes their gradients.

        DDP allows one backward pass per parameter. So the loss of a module that shares parameters
        with a policy joins the loss of the optimizer that owns them.
        """
        separate = []
        for module_id in filter(self._is_auxiliary, loss_per_module):
            key, loss = self._joined_losses[module_id], loss_per_module[module_id]
            if key in self._temp_losses:
                self._temp_losses[key] = self._temp_losses[key] + loss
            elif loss.requires_grad:
                separate.append(loss)
        if separate:
            sum(separate).backward()

    def _check_auxiliary_modules(self) -> None:
        """Checks the data and optimizers of each module, and finds the loss that its loss joins."""
        owners, joined = self._owners(), {}
        for module_id in self._auxiliary_ids():
            if self._has_default_data():
                self._only_policy(module_id)
            params = self._trainable_params(module_id)
            if orphans := [name for name in params if not owners[params[name]]]:
                raise ValueError(_no_optimizer_message(module_id, orphans))
            owners_of_params = [owners[param] for param in params.values()]
            joined[module_id] = self._joined_loss(module_id, owners_of_params)
        # The other modules join too: they may share parameters with a module that joins.
        default = next(filter(None, joined.values()), None)
        self._joined_losses = {module_id: joined[module_id] or default for module_id in joined}

    def _owners(self) -> dict[Any, list[tuple[ModuleID, str]]]:
        """Returns the optimizers of each parameter: their modules and names."""
        owners = defaultdict(list)
        for module_id in [*self._module_optimizers]:
            for name, optimizer in self.get_optimizers_for_module(module_id):
                for param in self._optimizer_parameters[optimizer]:
                    owners[param].append((module_id, name))
        return owners

    def _joined_loss(
        self, module_id: ModuleID, owners: list[list[tuple[ModuleID, str]]]
    ) -> tuple[ModuleID, str] | None:
        """Returns the key in `_temp_losses` of the policy's loss that a module's loss must join."""
        auxiliary = self._auxiliary_ids()
        of_policies = {owner for each in owners for owner in each if owner[0] not in auxiliary}
        clashing = {owner for each in owners if len(each) > 1 for owner in each}
        if len(of_policies) > 1 and hasattr(self, "_temp_losses"):
            clashing |= of_policies
        if clashing:
            raise ValueError(_several_optimizers_message(module_id, clashing))
        return next(((policy, f"{name}_loss") for policy, name in of_policies), None)

    def _has_default_data(self) -> bool:
        return type(self).data_for_module is _AuxiliaryData.data_for_module

    def _trainable_params(self, module_id: ModuleID) -> dict[str, Any]:
        params = self.module[module_id].unwrapped().named_parameters()
        return {name: param for name, param in params if param.requires_grad}

    def _check_all_have_data(self, missing: set[ModuleID]) -> None:
        auxiliary = self._auxiliary_ids()
        is_missing = [module_id in missing for module_id in auxiliary]
        num_missing = torch.tensor(is_missing, dtype=torch.int32, device=self._device)
        torch.distributed.all_reduce(num_missing)
        if num_missing.any():
            module_ids = [auxiliary[i] for i in num_missing.nonzero()]
            raise ValueError(_no_data_message(module_ids))

    def _check_gradients(self, module_id: ModuleID) -> None:
        params = self._trainable_params(module_id)
        if unused := [name for name in params if params[name].grad is None]:
            raise ValueError(_unused_parameters_message(module_id, unused))


class AuxiliaryModulesOffline(_AuxiliaryData):
    """Mixed into RLlib's `OfflineEvaluationRunner`: evaluates auxiliary modules with the policies.

    The mix-in comes before RLlib's class:

        class Runner(AuxiliaryModulesOffline, OfflineEvaluationRunner):
            pass

        config.evaluation(offline_eval_runner_class=Runner, offline_evaluation_interval=1)
    """

    _rllib_class = OfflineEvaluationRunner

    def compute_eval_losses(
        self, *, fwd_out: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, Any]:
        """Computes the losses of the policies and of the auxiliary modules."""
        data = self._collect_data(self._auxiliary_ids(), batch)
        outputs = {name: self.module[name].forward_train(data[name]) for name in data}
        fwd_out, batch = outputs | fwd_out, batch | data
        return super().compute_eval_losses(fwd_out=fwd_out, batch=batch)  # type: ignore[misc, no-any-return]


def add_next_obs(observation_space: Any, action_space: Any) -> ConnectorV2:
    """Adds the next observations to the batch, as the column `"new_obs"`.

    Pass it in the configuration: `config.learners(learner_connector=add_next_obs)`.
    """
    return AddNextObservationsFromEpisodesToTrainBatch()


class _Columns(dict[str, Any]):
    """The data of an auxiliary module. Names what is there if a column is missing."""

    def __init__(self, module_id: ModuleID, columns: dict[str, Any]) -> None:
        super().__init__(columns)
        self.module_id = module_id

    def __missing__(self, name: str) -> Any:
        raise KeyError(_missing_column_message(self.module_id, name, self))


def _is_library_class(cls: type) -> bool:
    return cls.__module__.startswith(("ray.rllib.", "self_supervised_loss."))


def _can_act(module: Any) -> bool:
    names = ("_forward", "_forward_inference", "_forward_exploration")
    return any(getattr(type(module), name) is not getattr(TorchRLModule, name) for name in names)


def _check_space(module_id: ModuleID, spec: Any) -> None:
    if spec.observation_space is None:
        raise ValueError(
            f"module {module_id!r} has no observation space, and RLlib has none for its ID. "
            "Write RLModuleSpec(observation_space=..., action_space=...)."
        )


def _check_loss(loss: Any, module_id: ModuleID, module: Any) -> None:
    if not isinstance(loss, torch.Tensor) or loss.dim() > 0:
        raise TypeError(_not_scalar_message(loss, module_id, module))
    if not loss.requires_grad and any(param.requires_grad for param in module.parameters()):
        raise ValueError(_no_gradient_message(module_id, module))


# Messages


def _name(module_id: ModuleID, module: Any) -> str:
    return f"module {module_id!r} ({type(module).__name__})"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _wrong_bases_message(cls: type[_AuxiliaryData]) -> str:
    mix_in = next(parent for parent in cls.__mro__ if parent.__module__ == __name__)
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    return (
        f"{mix_in.__name__} must come before a subclass of {cls._rllib_class.__name__}, "
        f"got class {cls.__name__}({bases}). Write class Learner(AuxiliaryModules, "
        "PPOTorchLearner) or class Runner(AuxiliaryModulesOffline, OfflineEvaluationRunner)."
    )


def _only_policy_message(module_id: ModuleID, policies: list[ModuleID]) -> str:
    if policies:
        return (
            f"module {module_id!r} could learn from several policies: {_quoted(sorted(policies))}. "
            "Override data_for_module(module_id, batch) in the learner to return its data."
        )
    return (
        f"module {module_id!r} has no policy to learn from. Give it another ID and "
        "learner_only=True, and add a policy to the specs: DEFAULT_MODULE_ID: RLModuleSpec()."
    )


def _not_registered_message(module_id: ModuleID, module: Any) -> str:
    return (
        f"{_name(module_id, module)} does not implement the API in this process. "
        f"{remedy_message(module)} "
        "Do so in the file of the class, since a registration holds in one process."
    )


def _no_parameters_message(module_id: ModuleID, module: Any) -> str:
    return (
        f"{_name(module_id, module)} has no parameters. "
        "Create its networks in setup(), and assign each to an attribute."
    )


def _no_optimizer_message(module_id: ModuleID, params: list[str]) -> str:
    return (
        f"parameters of module {module_id!r} have no optimizer: {', '.join(params)}. "
        "Call super().configure_optimizers_for_module in the learner, or register one."
    )


def _several_optimizers_message(
    module_id: ModuleID, optimizers: Iterable[tuple[ModuleID, str]]
) -> str:
    names = (f"{name} of {policy!r}" for policy, name in sorted(optimizers))
    return (
        f"module {module_id!r} shares parameters with several optimizers: {', '.join(names)}. "
        "Share only parameters that one optimizer trains, such as a separate encoder."
    )


def _no_data_message(module_ids: list[ModuleID]) -> str:
    return (
        f"data_for_module returned no data for {_quoted(module_ids)} on at least one learner. "
        "Several learners average their gradients, so each needs data. "
        "Return the data of another policy, or train on one learner."
    )


def _missing_column_message(module_id: ModuleID, name: str, columns: dict[str, Any]) -> str:
    if name == "new_obs" and "obs" in columns:
        remedy = "Add it with config.learners(learner_connector=add_next_obs)."
    else:
        remedy = "data_for_module must return the columns that the module reads."
    present = _quoted(columns)
    return f"the data of module {module_id!r} has no column {name!r}, only {present}. {remedy}"


def _not_scalar_message(loss: Any, module_id: ModuleID, module: Any) -> str:
    got = f"a tensor of shape {(*loss.shape,)}" if isinstance(loss, torch.Tensor) else repr(loss)
    return (
        f"the loss of {_name(module_id, module)} must be a tensor of shape (), got {got}. "
        "Return a scalar from compute_self_supervised_loss, such as losses.mean()."
    )


def _no_gradient_message(module_id: ModuleID, module: Any) -> str:
    return (
        f"the loss of {_name(module_id, module)} has no gradient. Compute it from fwd_out, "
        "without detach(), item() or torch.no_grad()."
    )


def _unused_parameters_message(module_id: ModuleID, names: list[str]) -> str:
    return (
        f"parameters of module {module_id!r} have no part in its loss, which several learners "
        f"cannot train: {', '.join(names)}. Freeze them with requires_grad_(False)."
    )
