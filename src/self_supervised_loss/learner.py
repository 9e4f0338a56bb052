"""The learner: asks each module for its loss, or computes it itself."""

import abc
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Generic, Protocol, cast
from weakref import WeakSet

from self_supervised_loss.api import ConfigT, ModuleID, SelfSupervisedLossAPI, TensorT
from self_supervised_loss.metrics import MetricsLogger


class Learner(Generic[TensorT, ConfigT]):
    """Computes one loss per module: the module's own where it brings one, and otherwise the learner's.

    Subclass it and override `compute_loss_for_module` with the loss of your algorithm. It has modules, a configuration
    and metrics, but no optimizer and no data. One call in the training loop computes all losses:

        learner = PPOLearner(module={"policy": policy, "icm": icm}, config=config)
        for batch in batches:    # {"policy": {"obs": ..., ...}, "icm": {...}}
            fwd_out = {module_id: module(batch[module_id]) for module_id, module in learner.module.items()}
            losses = learner.compute_losses(fwd_out=fwd_out, batch=batch)
            sum(losses.values()).backward()
    """

    def __init__(self, *, module: "_Modules", config: ConfigT | None = None, metrics: "_Metrics | None" = None) -> None:
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
            remedy = 'Write Learner(module={"my_module": my_module}).'
            raise TypeError(f"module must map module IDs to modules, but is a {type(module).__name__}. {remedy}")
        self.module: Any = module
        self.config = cast("ConfigT", config)
        self.metrics: Any = MetricsLogger() if metrics is None else metrics

    def compute_losses(
        self, *, fwd_out: Mapping[ModuleID, Any], batch: Mapping[ModuleID, Any], **kwargs: Any
    ) -> dict[ModuleID, TensorT]:
        """Computes the loss of every module that has an output.

        Args:
            fwd_out: The output of each module's forward pass, by module ID. Other modules get no loss now.
            batch: The data of each module, by module ID, and perhaps of others.
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
        get_config, direct = self.get_config_for_module, getattr(self.config, "get_config_for_module", None)
        if callable(direct) and getattr(get_config, "__func__", None) is Learner.get_config_for_module:
            get_config = direct  # the same, with one call less for each module
        module_class, derived = None, False
        for module_id, output in fwd_out.items():
            try:
                module, data = self.module[module_id], batch[module_id]
            except KeyError as error:
                where, ids = ("batch", batch) if module_id in self.module.keys() else ("module", self.module)
                if module_id in ids.keys():
                    raise  # it is not missing, but cannot be made
                raise KeyError(f"{module_id!r} is in fwd_out but not in {where}, which has {[*ids.keys()]}") from error
            try:
                config = get_config(module_id)
                if type(module) is not module_class:  # modules of one class often come in a row
                    module_class = type(module)
                    derived = SelfSupervisedLossAPI in module_class.__mro__  # quicker to tell than isinstance
                own = derived or isinstance(module := self.unwrap(module), _BringsLoss)
                if own and not kwargs:  # even an empty ** makes a call twice as slow
                    loss = module.compute_self_supervised_loss(
                        learner=self, module_id=module_id, config=config, batch=data, fwd_out=output
                    )
                elif own:
                    loss = module.compute_self_supervised_loss(
                        learner=self, module_id=module_id, config=config, batch=data, fwd_out=output, **kwargs
                    )
                elif not kwargs:
                    loss = self.compute_loss_for_module(module_id=module_id, config=config, batch=data, fwd_out=output)
                else:
                    loss = self.compute_loss_for_module(
                        module_id=module_id, config=config, batch=data, fwd_out=output, **kwargs
                    )
            except BaseException as error:
                with suppress(Exception):  # Python 3.10 has no notes, and the error matters more than its note
                    cast(Any, error).add_note(f"in the loss of module {module_id!r} ({type(module).__name__})")
                raise
            if loss is None:
                raise TypeError(f"the loss of module {module_id!r} ({type(module).__name__}) is None: return it")
            losses[module_id] = loss
        return losses

    def compute_loss_for_module(
        self, *, module_id: ModuleID, config: ConfigT, batch: dict[str, Any], fwd_out: dict[str, TensorT], **kwargs: Any
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
            f"bring one, or override {type(self).__name__}.compute_loss_for_module."
        )

    def get_config_for_module(self, module_id: ModuleID) -> ConfigT:
        """Returns the configuration that holds for a module.

        Args:
            module_id: The ID of the module.

        Returns:
            What `config.get_config_for_module(module_id)` returns, if `config` has that method, else `config`.
        """
        get_config_for_module = getattr(self.config, "get_config_for_module", None)
        return get_config_for_module(module_id) if callable(get_config_for_module) else self.config

    def unwrap(self, module: Any) -> Any:
        """Looks through wrappers for a module that brings its own loss.

        Wrappers are those with a method `unwrapped()`, as RLlib's have, `torch.compile`, `DistributedDataParallel`,
        `DataParallel`, `AveragedModel` and Lightning Fabric's, also around one another. For one of your own, override:

            def unwrap(self, module):
                return self.unwrap(module.inner) if isinstance(module, MyWrapper) else super().unwrap(module)

        Args:
            module: A module, wrapped or not.

        Returns:
            The outermost module that implements `SelfSupervisedLossAPI`, or else the innermost.
        """
        inner = module
        if callable(getattr(type(module), "unwrapped", None)):
            inner = module.unwrapped()
        else:
            for base in type(module).__mro__:
                home, attribute = _WRAPPERS.get(base.__name__, (None, ""))
                if home is not None and base.__module__.endswith(home):
                    inner = getattr(module, attribute)
        found = inner is module or isinstance(module, SelfSupervisedLossAPI)
        return module if found else self.unwrap(inner)  # by self, so that an override sees each layer


class _Modules(Protocol):
    def keys(self) -> Iterable[ModuleID]: ...
    def __getitem__(self, module_id: ModuleID, /) -> Any: ...


class _Metrics(Protocol):  # properties, since pyrefly would compare the parameters of methods
    @property
    def log_value(self) -> Callable[..., Any]: ...
    @property
    def log_dict(self) -> Callable[..., Any]: ...


# Wrappers by class name: the module that they are from, and where they hold what they wrap. Torch is not imported.
_WRAPPERS = {
    "OptimizedModule": ("torch._dynamo.eval_frame", "_orig_mod"),
    "DistributedDataParallel": ("torch.nn.parallel.distributed", "module"),
    "DataParallel": ("torch.nn.parallel.data_parallel", "module"),
    "AveragedModel": ("torch.optim.swa_utils", "module"),
    "_FabricModule": ("fabric.wrappers", "_forward_module"),  # of lightning or of lightning_fabric
}


class _BringsLoss(abc.ABC):  # noqa: B024
    """Stands for what implements the API, and warns of what only has the method. `abc` keeps the answer per class."""

    warned: ClassVar["WeakSet[type]"] = WeakSet()

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        if issubclass(subclass, SelfSupervisedLossAPI):
            return True
        if hasattr(subclass, "compute_self_supervised_loss") and subclass not in cls.warned:
            name = subclass.__name__
            remedy = f"Derive {name} from SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
            warnings.warn(f"{name}.compute_self_supervised_loss is not called. {remedy}", stacklevel=5)
            cls.warned.add(subclass)
        return False
