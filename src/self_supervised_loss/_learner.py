"""The learner: calls the loss method of each module that implements the API, and else its own."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, cast

from self_supervised_loss._api import ConfigT, ModuleID, SelfSupervisedLossAPI, TensorT
from self_supervised_loss._frameworks import is_dynamo_tracing, is_mapping
from self_supervised_loss._metrics import MetricsLogger
from self_supervised_loss._wrappers import check_fallback, remedy, unwrap

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

    _Modules = SupportsKeysAndGetItem[ModuleID, Any]


class Learner(Generic[TensorT, ConfigT]):
    """Computes one loss per module: the module's own if it implements the API, else the learner's.

    Subclass it and override `compute_loss_for_module` with the loss of your algorithm. It has no
    optimizer and no data:

        learner = PPOLearner(module={"policy": policy, "icm": icm}, config=config)
        for batch in batches:  # {"policy": {"obs": ..., ...}, "icm": {...}}
            fwd_out = {name: module(batch[name]) for name, module in learner.module.items()}
            losses = learner.compute_losses(fwd_out=fwd_out, batch=batch)
            torch.autograd.backward([*losses.values()])

    Or mix it into a class that exists: `class Trainer(Learner, nn.Module)`. With `nn.Module` first,
    the class also needs `call_super_init = True`.

    Or borrow the dispatcher: `compute_losses = Learner.compute_losses` works in any class that has
    `module`, `config`, `metrics` and `compute_loss_for_module`. That is the way for a class whose
    `__init__` takes arguments, since `Learner.__init__` passes none on.
    """

    def __init__(
        self, *, module: "_Modules", config: ConfigT | None = None, metrics: Any = None
    ) -> None:
        """Makes a learner of these modules.

        Args:
            module: The modules by module ID: a dict, a `torch.nn.ModuleDict`, an RLlib
                `MultiRLModule` or any other mapping. It is not copied, so modules may come and go.
            config: The configuration. One with a method `get_config_for_module(module_id)`, such
                as RLlib's `AlgorithmConfig`, has a configuration for each module.
            metrics: Where modules log: an object with `log_value` and `log_dict`, by default a new
                `MetricsLogger`.

        Raises:
            TypeError: If `module` is no mapping, such as a single module or a wrapper around all.
        """
        super().__init__()
        if not is_mapping(module):
            raise TypeError(_no_mapping(module))
        self.module: Any = module
        self.config = cast("ConfigT", config)
        self.metrics: Any = MetricsLogger() if metrics is None else metrics

    def compute_losses(
        self: Any, *, fwd_out: Mapping[ModuleID, Any], batch: Mapping[ModuleID, Any], **kwargs: Any
    ) -> dict[ModuleID, TensorT]:
        """Computes the loss of every module that has an output.

        For a loss across modules, override it: call `super().compute_losses(...)` and add to what
        it returns.

        Args:
            fwd_out: The output of each module's forward pass, by module ID.
            batch: The data of each module, by module ID, and perhaps of others.
            **kwargs: Passed on to every loss method.

        Returns:
            The losses by module ID, in the order of `fwd_out`.

        Raises:
            KeyError: If a module ID of `fwd_out` is missing from `module` or from `batch`.
            TypeError: If a loss method returns None, if `kwargs` clashes with an argument of a
                loss method, or if a module is a class.
            Exception: What a loss method raises, with a note (from Python 3.11 on) that names the
                module. In a graph of `torch.compile` there is no note.
        """
        losses: dict[ModuleID, TensorT] = {}
        for module_id, output in fwd_out.items():
            module = unwrap(_get(self.module, module_id, "module"))
            data = _get(batch, module_id, "batch")
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
                else:
                    check_fallback(module, module_id)
                    loss = self.compute_loss_for_module(
                        module_id=module_id, config=config, batch=data, fwd_out=output, **kwargs
                    )
            except BaseException as error:
                if not is_dynamo_tracing():  # which cannot trace a note, and would hide the error
                    name = type(module).__name__
                    _add_note(error, f"while computing the loss of module {module_id!r} ({name})")
                raise
            if loss is None:
                name = type(module).__name__
                raise TypeError(f"the loss of module {module_id!r} ({name}) is None: return it")
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

        Override it with the loss of your algorithm. It takes what `compute_self_supervised_loss`
        takes, but for `learner`, and returns a differentiable scalar of shape `()`. As it stands,
        it raises `NotImplementedError`.
        """
        module = unwrap(self.module[module_id])
        raise NotImplementedError(
            f"module {module_id!r} ({type(module).__name__}) has no loss. "
            f"Override {type(self).__name__}.compute_loss_for_module. "
            f"Or, if the module has its own loss: {remedy(module)}"
        )


def _get(mapping: Any, module_id: ModuleID, name: str) -> Any:
    try:
        return mapping[module_id]
    except KeyError as error:
        if module_id in mapping.keys():
            raise  # it is not missing, but cannot be made
        known = [*mapping.keys()]
        raise KeyError(
            f"{module_id!r} is in fwd_out but not in {name}, which has {known}"
        ) from error


def _config_for_module(config: Any, module_id: ModuleID) -> Any:
    # Not all configurations can be asked for an attribute while Dynamo traces, or say that they
    # lack one. Their type can and does.
    if callable(getattr(type(config), "get_config_for_module", None)):
        return config.get_config_for_module(module_id)
    return config


def _add_note(error: Any, note: str) -> None:
    with suppress(Exception):  # Python 3.10 has no notes, and the error matters more than its note
        error.add_note(note)


def _no_mapping(module: Any) -> str:
    fault = f"module must map module IDs to modules, but is a {type(module).__name__}."
    inside = unwrap(module)
    if is_mapping(inside):
        return f"{fault} Wrap each module in it, not the {type(inside).__name__} of all modules."
    return f'{fault} Write Learner(module={{"my_module": my_module}}).'
