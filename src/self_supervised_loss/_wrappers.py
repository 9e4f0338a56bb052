"""Finds the module inside wrappers such as `torch.compile` and DistributedDataParallel."""

import abc
from typing import Any

from self_supervised_loss._api import SelfSupervisedLossAPI
from self_supervised_loss._frameworks import find_imported

LOSS_METHOD = "compute_self_supervised_loss"

# The attribute of each wrapper class that holds the module inside. The classes appear by name,
# because no framework is imported.
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
_MOST_WRAPPERS = 100


def unwrap(module: Any) -> Any:
    """Returns the outermost module that implements the API or, if none does, the innermost.

    Raises:
        RecursionError: If an `unwrapped()` method leads back to its own module.
    """
    depth = 0
    while not isinstance(module, SelfSupervisedLossAPI):
        inside = _module_inside(module)
        if inside is module:
            break
        if depth == _MOST_WRAPPERS:
            raise RecursionError(_endless_message(module))
        module, depth = inside, depth + 1
    return module


def has_loss_method(module: Any) -> bool:
    """Returns whether a module has a loss method, or forwards to a module that has one."""
    if hasattr(type(module), LOSS_METHOD):
        return True
    get_attribute = getattr(type(module), "__getattr__", None)
    if get_attribute is None:
        return False
    # nn.Module's __getattr__ finds parameters, buffers and children only, and takes a microsecond.
    is_of_torch = getattr(get_attribute, "__module__", "") == "torch.nn.modules.module"
    return not is_of_torch and hasattr(module, LOSS_METHOD)


def is_outdated(module: Any) -> bool:
    """Returns whether the class of a module was defined again since, with the API."""
    module_class = type(module)
    current = find_imported(module_class.__module__, module_class.__qualname__)
    return current is not module_class and _implements_the_api(current)


def class_name(module: Any) -> str:
    """Returns the name of a module's class, or of a class that was passed as a module."""
    return module.__name__ if isinstance(module, type) else type(module).__name__


def remedy_message(module: Any) -> str:
    """Returns what to do about a module that should implement the API and does not."""
    name = class_name(module)
    if isinstance(module, type):
        return f"{name} is a class. Write {name}(...)."
    if is_outdated(module):
        return f"This {name} belongs to an older version of the class. Create it again."
    if has_loss_method(module) and not hasattr(type(module), LOSS_METHOD):
        return (
            f"{name} is an unknown wrapper. Give the learner the module inside, "
            f"or give {name} a method unwrapped() that returns that module."
        )
    return (
        f"Derive {name} from SelfSupervisedLossAPI, "
        "or register it with SelfSupervisedLossAPI.register."
    )


class _KnownWrapper(abc.ABC):  # noqa: B024 - only isinstance uses it
    """Virtual base class of the wrapper classes in `_ATTRIBUTES`.

    `abc` caches the answer for each class without keeping the class alive, and Dynamo treats the
    answer as a constant.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        return bool(_attribute_of(subclass))


def _module_inside(module: Any) -> Any:
    """Returns the module inside a wrapper, and any other module itself."""
    if callable(getattr(type(module), "unwrapped", None)):
        return module.unwrapped()
    if isinstance(module, _KnownWrapper):
        return getattr(module, _attribute_of(type(module)))
    return module


def _attribute_of(wrapper_class: type) -> str:
    for base in wrapper_class.__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if name in _ATTRIBUTES:
            return _ATTRIBUTES[name]
    return ""


def _implements_the_api(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, SelfSupervisedLossAPI)


def _endless_message(module: Any) -> str:
    return (
        f"{class_name(module)}.unwrapped() never reaches the innermost module. "
        "It must return the module inside, or self if there is none."
    )
