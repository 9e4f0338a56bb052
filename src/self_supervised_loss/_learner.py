"""The learner: calls the loss method of each module that implements the API, and its own for every other module."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, cast

from self_supervised_loss._api import ConfigT, ModuleID, SelfSupervisedLossAPI, TensorT
from self_supervised_loss._frameworks import is_dynamo_tracing
from self_supervised_loss._metrics import MetricsLogger
from self_supervised_loss._wrappers import Wrapper, look_into, unwrap

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

    _Modules = SupportsKeysAndGetItem[ModuleID, Any]


class Learner(Generic[TensorT, ConfigT]):
    """Computes one loss per module: the module's own where it brings one, and otherwise the learner's.

    Subclass it and override `compute_loss_for_module` with your algorithm's loss. It has no optimizer and no data:

        learner = PPOLearner(module={"policy": policy, "icm": icm}, config=config)
        for batch in batches:    # {"policy": {"obs": ..., ...}, "icm": {...}}
            fwd_out = {module_id: module(batch[module_id]) for module_id, module in learner.module.items()}
            losses = learner.compute_losses(fwd_out=fwd_out, batch=batch)
            torch.autograd.backward([*losses.values()])

    Or mix it into a class that exists: `class Trainer(Learner, nn.Module)`. With `nn.Module` first, the class also
    needs `call_super_init = True`. Or borrow the dispatcher: `compute_losses = Learner.compute_losses` works in any
    class that has `module`, `config`, `metrics` and `compute_loss_for_module`.
    """

    def __init__(
        self, *, module: "_Modules", config: ConfigT | None = None, metrics: Any = None
    ) -> None:
        """Makes a learner of these modules.

        Args:
            module: The modules by module ID, in a dict, a `torch.nn.ModuleDict`, an RLlib `MultiRLModule` or any other
                mapping, and else a `TypeError`. It is not copied, so modules may come and go.
            config: The configuration. An object with a method `get_config_for_module(module_id)` has one per module.
            metrics: Where modules log: an object with `log_value` and `log_dict`, by default a new `MetricsLogger`.
        """
        super().__init__()
        if not (hasattr(type(module), "keys") and hasattr(type(module), "__getitem__")):
            inside = type(unwrap(module))
            remedy = f"Wrap each module in it, not the {inside.__name__} of all modules."
            remedy = (
                remedy
                if hasattr(inside, "keys")
                else 'Write Learner(module={"my_module": my_module}).'
            )
            raise TypeError(
                f"module must map module IDs to modules, but is a {type(module).__name__}. {remedy}"
            )
        self.module: Any = module
        self.config = cast("ConfigT", config)
        self.metrics: Any = MetricsLogger() if metrics is None else metrics

    def compute_losses(
        self: Any, *, fwd_out: Mapping[ModuleID, Any], batch: Mapping[ModuleID, Any], **kwargs: Any
    ) -> dict[ModuleID, TensorT]:
        """Computes the loss of every module that has an output.

        For a loss across modules, override it: call `super().compute_losses(...)` and add to what it returns.

        Args:
            fwd_out: The output of each module's forward pass, by module ID.
            batch: The data of each module, by module ID, and perhaps of others.
            **kwargs: Passed on to every loss method.

        Returns:
            The losses by module ID, in the order of `fwd_out`.

        Raises:
            KeyError: If a module ID of `fwd_out` is missing from `module` or from `batch`.
            TypeError: If a loss method returns None, or if `kwargs` clashes with an argument of a loss method.
            Exception: What a loss method raises, with a note (from Python 3.11 on) that names the module.
        """
        losses: dict[ModuleID, TensorT] = {}
        try:
            return _compute_losses(self, fwd_out, batch, kwargs, losses)
        except BaseException as error:
            if not is_dynamo_tracing():
                with suppress(
                    Exception
                ):  # Python 3.10 has no notes, and the error matters more than its note
                    module_id = [*fwd_out][len(losses)]
                    name = type(unwrap(self.module[module_id])).__name__
                    cast(Any, error).add_note(
                        f"while computing the loss of module {module_id!r} ({name})"
                    )
                raise
        # Dynamo shows the line of an error only where nothing catches it, so that a graph meets the error again here.
        return _compute_losses(self, fwd_out, batch, kwargs, losses)

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

        It takes what `compute_self_supervised_loss` takes, but for `learner`, and returns a differentiable scalar of
        shape `()`. As it stands, it raises `NotImplementedError`.
        """
        name = type(unwrap(self.module[module_id])).__name__
        remedy = f"Derive {name} from SelfSupervisedLossAPI, or override {type(self).__name__}.compute_loss_for_module."
        raise NotImplementedError(f"module {module_id!r} ({name}) has no loss. {remedy}")


def _compute_losses(
    learner: Any, fwd_out: Any, batch: Any, extras: Any, losses: dict[str, Any]
) -> dict[str, Any]:
    get_config: Any = getattr(learner.config, "get_config_for_module", None)
    has_configs = callable(get_config)
    for module_id, output in fwd_out.items():
        try:
            module, data = learner.module[module_id], batch[module_id]
        except KeyError as error:
            where, ids = (
                ("batch", batch)
                if module_id in learner.module.keys()
                else ("module", learner.module)
            )
            if module_id in ids.keys():
                raise  # it is not missing, but cannot be made
            raise KeyError(
                f"{module_id!r} is in fwd_out but not in {where}, which has {[*ids.keys()]}"
            ) from error
        config = get_config(module_id) if has_configs else learner.config
        implements_api = isinstance(module, SelfSupervisedLossAPI)
        if not implements_api and isinstance(module, Wrapper):
            module, implements_api = look_into(module)
        compute_loss = (
            module.compute_self_supervised_loss
            if implements_api
            else learner.compute_loss_for_module
        )
        if extras:  # a call with ** takes twice as long, even with nothing in it
            compute_loss = _bind(compute_loss, extras)
        if implements_api:
            loss = compute_loss(
                learner=learner, module_id=module_id, config=config, batch=data, fwd_out=output
            )
        else:
            loss = compute_loss(module_id=module_id, config=config, batch=data, fwd_out=output)
        if loss is None:
            raise TypeError(
                f"the loss of module {module_id!r} ({type(module).__name__}) is None: return it"
            )
        losses[module_id] = loss
    return losses


def _bind(compute_loss: Callable[..., Any], extras: dict[str, Any]) -> Callable[..., Any]:
    return lambda **arguments: compute_loss(
        **arguments, **extras
    )  # functools.partial would let one be overridden
