"""What a learner looks through to find a module that implements the API."""

import abc
import warnings
from typing import Any

from self_supervised_loss._api import SelfSupervisedLossAPI
from self_supervised_loss._bridge import RL_MODULE
from self_supervised_loss._frameworks import imported

# The attribute of each wrapper class that is the module inside. They are known by name, since nothing is imported.
_ATTRIBUTES = {
    "lightning.fabric.wrappers._FabricModule": "module",
    "lightning_fabric.wrappers._FabricModule": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
}


class Wrapper(abc.ABC):  # noqa: B024 - for isinstance alone
    """Virtual base class of the wrappers.

    `abc` remembers the answer per class and keeps no class alive, and to Dynamo `isinstance` is a constant.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        """Tells what is a wrapper, and warns of a class that has the loss method without implementing the API."""
        unwrapped, rl_module = getattr(subclass, "unwrapped", None), imported(*RL_MODULE)
        if _attribute(subclass) or (
            callable(unwrapped) and unwrapped is not getattr(rl_module, "unwrapped", None)
        ):
            return True  # RLModule.unwrapped returns the module itself, where it is not overridden
        if hasattr(subclass, "compute_self_supervised_loss") and not issubclass(
            subclass, SelfSupervisedLossAPI
        ):
            remedy = "Derive the class from SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
            # To the caller of compute_losses: past this frame, two of abc, and two of learner.py.
            warnings.warn(
                f"{subclass.__name__}.compute_self_supervised_loss is not called. {remedy}",
                stacklevel=6,
            )
        return False


def unwrap(module: Any) -> Any:
    """Returns the outermost module that implements the API or, where none does, the innermost."""
    found = isinstance(module, SelfSupervisedLossAPI) or not isinstance(module, Wrapper)
    return module if found else look_into(module)[0]


def look_into(wrapper: Any) -> tuple[Any, bool]:
    """Does the same for a wrapper that does not implement the API, and tells whether the module inside does."""
    unwrapped = getattr(type(wrapper), "unwrapped", None)
    inner = (
        wrapper.unwrapped() if callable(unwrapped) else getattr(wrapper, _attribute(type(wrapper)))
    )
    implements_api = isinstance(inner, SelfSupervisedLossAPI)
    found = implements_api or inner is wrapper or not isinstance(inner, Wrapper)
    return (inner, implements_api) if found else look_into(inner)


def _attribute(wrapper_class: type) -> str:
    names = (f"{base.__module__}.{base.__qualname__}" for base in wrapper_class.__mro__)
    return next((_ATTRIBUTES[name] for name in names if name in _ATTRIBUTES), "")
