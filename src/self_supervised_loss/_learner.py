"""The learner: one loss per module, from the module itself or from the learner."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, cast

from self_supervised_loss._api import ConfigT, ModuleID, SelfSupervisedLossAPI, TensorT
from self_supervised_loss._frameworks import is_dynamo_tracing, is_mapping
from self_supervised_loss._metrics import MetricsLogger
from self_supervised_loss._wrappers import (
    LOSS_METHOD,
    class_name,
    has_loss_method,
    is_outdated,
    remedy_message,
    unwrap,
)

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

    Modules = SupportsKeysAndGetItem[ModuleID, Any]
else:
    Modules = Any  # _typeshed exists for type checkers only, and pydantic evaluates annotations


class Learner(Generic[TensorT, ConfigT]):
    """Computes one loss per module: the module's own loss or, if it has none, the learner's.

    A learner holds only modules, a configuration and metrics, so create it wherever you need it. In
    a program that keeps the policy's loss, the learner holds the other modules:

        learner = Learner(module={"rnd": rnd})
        ...
        losses = learner.compute_losses(fwd_out={"rnd": rnd(columns)}, batch={"rnd": columns})
        loss = policy_loss + losses["rnd"]

    To move your algorithm's loss into the learner, derive a class and override
    `compute_loss_for_module`. It computes the loss of every module that brings none.

    Example:
        >>> class Rnd(SelfSupervisedLossAPI):
        ...     def compute_self_supervised_loss(self, *, learner, module_id, fwd_out, **kwargs):
        ...         loss = fwd_out["error"] ** 2
        ...         learner.metrics.log_value((module_id, "loss"), loss)
        ...         return loss
        >>> class PolicyGradient(Learner):
        ...     def compute_loss_for_module(self, *, batch, fwd_out, **kwargs):
        ...         return -fwd_out["log_prob"] * batch["advantage"]
        >>> learner = PolicyGradient(module={"policy": object(), "rnd": Rnd()})
        >>> learner.compute_losses(
        ...     fwd_out={"policy": {"log_prob": -0.5}, "rnd": {"error": 3.0}},
        ...     batch={"policy": {"advantage": 2.0}, "rnd": {}},
        ... )
        {'policy': 1.0, 'rnd': 9.0}
        >>> learner.metrics.reduce()
        {'rnd': {'loss': 9.0}}
    """

    def __init__(
        self, *, module: Modules, config: ConfigT | None = None, metrics: Any = None
    ) -> None:
        """Creates a learner of these modules.

        Args:
            module: The modules by module ID: a dict, a `torch.nn.ModuleDict`, an RLlib
                `MultiRLModule` or any other mapping. It is not copied, so you may add and remove
                modules later.
            config: The configuration. If it has a method `get_config_for_module(module_id)`, as
                RLlib's `AlgorithmConfig` does, each module gets its own.
            metrics: The logger of the modules: any object with `log_value` and `log_dict`. The
                default is a new `MetricsLogger`.

        Raises:
            TypeError: If `module` is not a mapping, such as a single module or a wrapper around a
                mapping.
        """
        super().__init__()
        if not is_mapping(module):
            raise TypeError(_not_a_mapping_message(module))
        self.module: Any = module
        self.config = cast("ConfigT", config)
        self.metrics: Any = MetricsLogger() if metrics is None else metrics

    # `self` is Any because a class that is not a Learner may borrow this method.
    def compute_losses(
        self: Any, *, fwd_out: Mapping[ModuleID, Any], batch: Mapping[ModuleID, Any], **kwargs: Any
    ) -> dict[ModuleID, TensorT]:
        """Computes the loss of each module in `fwd_out`.

        Override it for a loss across modules: call `super().compute_losses(...)`, then add to the
        result.

        Args:
            fwd_out: The output of each module's forward pass, by module ID. Modules that it does
                not contain get no loss.
            batch: The data of each module, by module ID. It may contain further IDs.
            **kwargs: Passed on to each loss method.

        Returns:
            The losses by module ID, in the order of `fwd_out`.

        Raises:
            KeyError: If a module ID of `fwd_out` is missing from `module` or `batch`.
            TypeError: If a loss method returns None or is `async`, if a name in `kwargs` is also an
                argument of the loss method, or if a module is a class.
            Exception: Any exception of a loss method, unchanged. On Python 3.11 and later it has a
                note that names the module, except in a graph of `torch.compile`.
        """
        losses: dict[ModuleID, TensorT] = {}
        for module_id, output in fwd_out.items():
            try:
                module, data = unwrap(self.module[module_id]), batch[module_id]
            except KeyError as error:
                _require_id(self.module, module_id, "module", error)
                _require_id(batch, module_id, "batch", error)
                raise  # both have the ID, and one of them failed to load its item
            config = _config_for_module(self.config, module_id)
            try:
                if isinstance(module, SelfSupervisedLossAPI):
                    loss = module.compute_self_supervised_loss(
                        learner=self,
                        module_id=module_id,
                        config=config,
                        batch=data,
                        fwd_out=output,
                        **kwargs,
                    )
                elif isinstance(module, type):
                    raise TypeError(_not_an_instance_message(module, module_id))
                else:
                    if has_loss_method(module) and not is_dynamo_tracing():
                        _warn_about_ignored_loss(module)  # Dynamo cannot trace a warning
                    loss = self.compute_loss_for_module(
                        module_id=module_id, config=config, batch=data, fwd_out=output, **kwargs
                    )
            except BaseException as error:  # a note on KeyboardInterrupt shows which module ran
                if not is_dynamo_tracing():  # Dynamo would report that it cannot trace the note
                    _add_note(error, module, module_id)
                raise
            _require_loss(loss, module, module_id)
            losses[module_id] = loss
        return losses

    def compute_loss_for_module(
        self,
        *,
        module_id: ModuleID,
        config: ConfigT,
        batch: dict[str, Any],
        fwd_out: dict[str, TensorT],
        **kwargs: Any,
    ) -> TensorT:
        """Computes the loss of a module that does not implement the API.

        Override it with your algorithm's loss. The arguments are those of
        `SelfSupervisedLossAPI.compute_self_supervised_loss`, without `learner`. The result is a
        differentiable scalar of shape `()`.

        Raises:
            NotImplementedError: If it is not overridden.
        """
        module = unwrap(self.module[module_id])
        raise NotImplementedError(_no_loss_message(module, module_id, type(self).__name__))


def _require_id(mapping: Any, module_id: ModuleID, name: str, error: KeyError) -> None:
    if module_id not in mapping.keys():
        raise KeyError(_missing_message(mapping, module_id, name)) from error


def _config_for_module(config: Any, module_id: ModuleID) -> Any:
    # The class is asked, because some configurations have any attribute you ask them for, and
    # others cannot be asked while Dynamo traces.
    if callable(getattr(type(config), "get_config_for_module", None)):
        return config.get_config_for_module(module_id)
    return config


def _warn_about_ignored_loss(module: Any) -> None:
    message = f"{class_name(module)}.{LOSS_METHOD} is not called. {remedy_message(module)}"
    warnings.warn(message, stacklevel=3)


def _require_loss(loss: Any, module: Any, module_id: ModuleID) -> None:
    if loss is None:
        name = _name(module, module_id)
        raise TypeError(f"the loss of {name} is None. Return it from the loss method.")
    if isinstance(loss, CoroutineType):
        loss.close()  # otherwise Python also warns that nothing awaited it
        name = _name(module, module_id)
        raise TypeError(f"the loss method of {name} is async. Define it without async.")


def _add_note(error: Any, module: Any, module_id: ModuleID) -> None:
    with suppress(Exception):  # Python 3.10 has no notes, and the error matters more than its note
        error.add_note(f"while computing the loss of {_name(module, module_id)}")


def _name(module: Any, module_id: ModuleID) -> str:
    return f"module {module_id!r} ({class_name(module)})"


def _missing_message(mapping: Any, module_id: ModuleID, name: str) -> str:
    present = [*mapping.keys()]
    message = f"{module_id!r} is in fwd_out but not in {name}, which has {present}."
    if name == "module":
        return f"{message} fwd_out must have the form {{module_id: outputs}}."
    if present:
        return f"{message} If these are columns, pass batch={{{module_id!r}: columns}}."
    return message


def _not_an_instance_message(module: Any, module_id: ModuleID) -> str:
    return f"module {module_id!r} must be an instance. {remedy_message(module)}"


def _not_a_mapping_message(module: Any) -> str:
    fault = f"module must be a mapping from module ID to module, got {class_name(module)}."
    inside = unwrap(module)
    if is_mapping(inside):
        return f"{fault} Wrap each module instead of the {class_name(inside)}."
    return f'{fault} Write Learner(module={{"my_module": my_module}}).'


def _no_loss_message(module: Any, module_id: ModuleID, learner_name: str) -> str:
    name = _name(module, module_id)
    if has_loss_method(module) or is_outdated(module):
        return f"{name} does not implement the API. {remedy_message(module)}"
    return (
        f"{name} has no loss. Override {learner_name}.compute_loss_for_module, "
        f"or leave {module_id!r} out of fwd_out. "
        f"If the module brings its own loss: {remedy_message(module)}"
    )
