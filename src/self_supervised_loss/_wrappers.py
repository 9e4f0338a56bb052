"""What a learner looks through to find a module that implements the API."""

import abc
import warnings
from typing import Any

from self_supervised_loss._api import SelfSupervisedLossAPI
from self_supervised_loss._bridge import RL_MODULE
from self_supervised_loss._frameworks import find_imported, is_dynamo_tracing

# The attribute of each wrapper class that is the module inside. The classes are known by name,
# since nothing is imported.
_ATTRIBUTES = {
    "deepspeed.runtime.engine.DeepSpeedEngine": "module",
    "lightning.fabric.wrappers._FabricModule": "module",
    "lightning_fabric.wrappers._FabricModule": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper": (
        "_checkpoint_wrapped_module"
    ),
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
}
_LOSS_METHOD = "compute_self_supervised_loss"


def unwrap(module: Any) -> Any:
    """Returns the outermost module that implements the API or, if none does, the innermost."""
    if isinstance(module, SelfSupervisedLossAPI) or not isinstance(module, _Wrapper):
        return module
    inside = _module_inside(module)
    return module if inside is module else unwrap(inside)


def check_fallback(module: Any, module_id: Any) -> None:
    """Looks at a module that does not implement the API, so that the learner computes its loss.

    If it has a loss method all the same, the caller of `compute_losses` is warned.

    Raises:
        TypeError: If the module is a class.
    """
    if not isinstance(module, _CloserLook):
        return
    if isinstance(module, type):
        raise TypeError(f"module {module_id!r} is not an instance. {remedy(module)}")
    if hasattr(module, _LOSS_METHOD) and not is_dynamo_tracing():  # which cannot trace a warning
        name = type(module).__name__
        warnings.warn(f"{name}.{_LOSS_METHOD} is not called. {remedy(module)}", stacklevel=3)


def remedy(module: Any) -> str:
    """Returns what to do about a module that should implement the API."""
    if isinstance(module, type):
        return f"{module.__name__} is a class: write {module.__name__}(...)."
    name = type(module).__name__
    if hasattr(module, _LOSS_METHOD) and not hasattr(type(module), _LOSS_METHOD):
        return (
            f"{name} is a wrapper that is not known: give the learner the module inside, "
            f"or give {name} a method unwrapped() that returns it."
        )
    return (
        f"Derive {name} from SelfSupervisedLossAPI, or register it with "
        "SelfSupervisedLossAPI.register."
    )


class _Wrapper(abc.ABC):  # noqa: B024 - for isinstance alone
    """Virtual base class of the wrappers.

    `abc` remembers the answer per class and keeps no class alive. To Dynamo it is a constant.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        return _unwraps_itself(subclass) or bool(_attribute(subclass))


class _CloserLook(abc.ABC):  # noqa: B024 - for isinstance alone
    """Virtual base class of what may have a loss method without implementing the API.

    So a plain `nn.Module` does not pay for the question whether an instance has the method.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        is_class = issubclass(subclass, type)
        return is_class or hasattr(subclass, _LOSS_METHOD) or _forwards_attributes(subclass)


def _unwraps_itself(module_class: type) -> bool:
    unwrapped = getattr(module_class, "unwrapped", None)
    rl_module = find_imported(*RL_MODULE)
    # RLModule.unwrapped returns the module itself, unless it is overridden.
    return callable(unwrapped) and unwrapped is not getattr(rl_module, "unwrapped", None)


def _attribute(wrapper_class: type) -> str:
    for base in wrapper_class.__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if name in _ATTRIBUTES:
            return _ATTRIBUTES[name]
    return ""


def _module_inside(wrapper: Any) -> Any:
    if callable(getattr(type(wrapper), "unwrapped", None)):
        return wrapper.unwrapped()
    return getattr(wrapper, _attribute(type(wrapper)))


def _forwards_attributes(module_class: type) -> bool:
    get_attribute = getattr(module_class, "__getattr__", None)
    nn_module = find_imported("torch.nn", "Module")
    return get_attribute not in (None, getattr(nn_module, "__getattr__", None))
