"""The learner: asks each module for its loss, or computes it itself."""

import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Generic, Protocol, cast
from weakref import WeakSet

from self_supervised_loss.api import ConfigT, ModuleID, SelfSupervisedLossAPI, TensorT
from self_supervised_loss.metrics import MetricsLogger


class Learner(Generic[TensorT, ConfigT]):
    """Computes one loss per module: the module's own where it brings one, and otherwise the learner's.

    Subclass it and override `compute_loss_for_module` with the loss of your algorithm. Then one call in the training
    loop computes all losses:

        learner = PPOLearner(module={"policy": policy, "icm": icm}, config=config)
        for batch in batches:    # {"policy": {"obs": ..., ...}, "icm": {...}}
            fwd_out = {module_id: module(batch[module_id]) for module_id, module in learner.module.items()}
            losses = learner.compute_losses(fwd_out=fwd_out, batch=batch)
            sum(losses.values()).backward()
            ...

    The learner holds no optimizer and no data, and leaves the losses as they are. It adds nothing to what
    `torch.compile` and `jax.jit` trace.

    Attributes:
        module: The modules by module ID.
        config: The configuration.
        metrics: Where modules log.
    """

    module: Any
    config: ConfigT
    metrics: Any

    def __init__(
        self,
        *,
        module: "_Modules",
        config: ConfigT | None = None,
        metrics: "_Metrics | None" = None,
    ) -> None:
        """Makes a learner of these modules.

        Args:
            module: The modules by module ID: a dict, a `torch.nn.ModuleDict`, an RLlib `MultiRLModule`, or anything
                else with `keys()` that is indexed by module ID. It is not copied, so modules may come and go.
            config: The configuration of all modules, of any type. An object with a method
                `get_config_for_module(module_id)` has one for each module.
            metrics: Where modules log: an object with `log_value` and `log_dict`, such as RLlib's `MetricsLogger`. By
                default a new `MetricsLogger`.

        Raises:
            TypeError: If `module` is not a mapping.
        """
        if not (hasattr(type(module), "keys") and hasattr(type(module), "__getitem__")):
            raise TypeError(
                f"module must be a mapping from module IDs to modules, not one {type(module).__name__}. "
                'Write Learner(module={"my_module": my_module}).'
            )
        self.module = module
        self.config = cast("ConfigT", config)
        self.metrics = MetricsLogger() if metrics is None else metrics

    def compute_losses(
        self, *, fwd_out: Mapping[ModuleID, Any], batch: Mapping[ModuleID, Any], **kwargs: Any
    ) -> dict[ModuleID, TensorT]:
        """Computes the loss of every module that has an output.

        Args:
            fwd_out: The output of each module's forward pass, by module ID. Modules that are not in it are not trained
                now.
            batch: The data of each module, by module ID. It may hold those of further modules.
            **kwargs: Passed on to every loss method.

        Returns:
            The losses by module ID, in the order of `fwd_out`, as the loss methods returned them.

        Raises:
            KeyError: If a module ID of `fwd_out` is missing from `module` or from `batch`.
            NotImplementedError: If a module brings no loss and the learner has none either.
            TypeError: If a loss method returns None.
            Exception: What a loss method raises, with a note (from Python 3.11 on) that names the module.
        """
        losses: dict[ModuleID, TensorT] = {}
        for module_id, module_fwd_out in fwd_out.items():
            try:
                module = self.module[module_id]
                module_batch = batch[module_id]
            except KeyError as error:
                raise _missing_id(module_id, self.module, batch) from error
            try:
                module = self.unwrap(module)
                config = self.get_config_for_module(module_id)
                if isinstance(module, SelfSupervisedLossAPI):
                    loss = module.compute_self_supervised_loss(
                        learner=self,
                        module_id=module_id,
                        config=config,
                        batch=module_batch,
                        fwd_out=module_fwd_out,
                        **kwargs,
                    )
                else:
                    if hasattr(type(module), "compute_self_supervised_loss"):
                        _warn_of_duck_typing(type(module))
                    loss = self.compute_loss_for_module(
                        module_id=module_id, config=config, batch=module_batch, fwd_out=module_fwd_out, **kwargs
                    )
            except BaseException as error:
                _add_note(error, module_id, module)
                raise
            if loss is None:
                raise TypeError(f"the loss of module {module_id!r} ({type(module).__name__}) is None: return it")
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
        """Computes the loss of a module that brings none. Override it with the loss of your algorithm.

        Args:
            module_id: The ID of the module.
            config: The configuration that holds for this module.
            batch: The data of this module by column, tensors of shape `(B, ...)`.
            fwd_out: The output of this module's forward pass, by name.
            **kwargs: What else was passed to `compute_losses`.

        Returns:
            The loss, a differentiable scalar of shape `()`.

        Raises:
            NotImplementedError: If it is not overridden.
        """
        module_class = type(self.unwrap(self.module[module_id])).__name__
        raise NotImplementedError(
            f"module {module_id!r} ({module_class}) has no loss. Derive {module_class} from SelfSupervisedLossAPI to "
            f"bring one, or override compute_loss_for_module in a subclass of Learner, here {type(self).__name__}."
        )

    def get_config_for_module(self, module_id: ModuleID) -> ConfigT:
        """Returns the configuration that holds for a module.

        Args:
            module_id: The ID of the module.

        Returns:
            What the configuration's own `get_config_for_module` returns if it has that method, as RLlib's
            `AlgorithmConfig` does, and otherwise the configuration as it is.
        """
        get_config_for_module = getattr(self.config, "get_config_for_module", None)
        return get_config_for_module(module_id) if callable(get_config_for_module) else self.config

    def unwrap(self, module: Any) -> Any:
        """Looks through wrappers for a module that brings its own loss.

        Known wrappers are those with a method `unwrapped()`, as RLlib's have, `torch.compile`,
        `DistributedDataParallel`, `DataParallel`, `AveragedModel` and Lightning Fabric's, also one around another.
        Override it for a wrapper of your own:

            def unwrap(self, module):
                return self.unwrap(module.inner) if isinstance(module, MyWrapper) else super().unwrap(module)

        Args:
            module: A module, wrapped or not.

        Returns:
            The outermost module that implements `SelfSupervisedLossAPI`, or else the innermost.
        """
        inner = _wrapped_by(module)
        if inner is module or isinstance(module, SelfSupervisedLossAPI):
            return module
        return self.unwrap(inner)  # by self, so that an override sees each layer


class _Modules(Protocol):
    def keys(self) -> Iterable[ModuleID]: ...
    def __getitem__(self, module_id: ModuleID, /) -> Any: ...


class _Metrics(Protocol):
    def log_value(self, *args: Any, **kwargs: Any) -> Any: ...
    def log_dict(self, *args: Any, **kwargs: Any) -> Any: ...


# Wrapper classes, and the attribute that holds what they wrap. They are known by name: torch may not be installed.
_WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "lightning.fabric.wrappers._FabricModule": "_forward_module",
    "lightning_fabric.wrappers._FabricModule": "_forward_module",
}


def _wrapped_by(module: Any) -> Any:
    """Returns what a wrapper wraps, or the module itself if it is no wrapper."""
    if callable(getattr(type(module), "unwrapped", None)):
        return module.unwrapped()
    for base in type(module).__mro__:
        attribute = _WRAPPERS.get(f"{base.__module__}.{base.__qualname__}")
        if attribute is not None:
            return getattr(module, attribute)
    return module


def _missing_id(module_id: ModuleID, module: "_Modules", batch: Mapping[ModuleID, Any]) -> KeyError:
    lacking, ids = ("batch", batch.keys()) if module_id in module.keys() else ("module", module.keys())
    return KeyError(f"module ID {module_id!r} is in fwd_out but not in {lacking}, which has {list(ids)}")


def _add_note(error: Any, module_id: ModuleID, module: Any) -> None:
    with suppress(Exception):  # Python 3.10 has no notes, and nothing that fails here may replace the error.
        error.add_note(f"while computing the loss of module {module_id!r} ({type(module).__name__})")


# Weak, so that the warning does not keep classes alive.
_warned: "WeakSet[type]" = WeakSet()


def _warn_of_duck_typing(module_class: type) -> None:
    if module_class not in _warned:
        _warned.add(module_class)
        warnings.warn(
            f"{module_class.__name__} has a method compute_self_supervised_loss, but does not implement "
            "SelfSupervisedLossAPI, so the method is not called. Derive the class from SelfSupervisedLossAPI, or "
            "register it with SelfSupervisedLossAPI.register.",
            UserWarning,
            stacklevel=3,
        )
