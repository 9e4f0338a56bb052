"""The bridge to Ray RLlib, which makes its API of the same name and ours one. Ray is never imported for it."""

import abc
import importlib
from typing import Any

from self_supervised_loss._frameworks import imported

RL_MODULE = "ray.rllib.core.rl_module.rl_module", "RLModule"


class SharedWithRLlib(abc.ABC):  # noqa: B024 - the abstract method is in our API, its only direct subclass
    """Base of our API."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Makes RLlib call the loss method of a new `RLModule` class, also where Ray creates it again in a worker."""
        super().__init_subclass__(**kwargs)
        if (
            imported(*RL_MODULE) in cls.__mro__
        ):  # so RLlib is there, though perhaps not yet its APIs
            importlib.import_module("ray.rllib.core.rl_module.apis").SelfSupervisedLossAPI.register(
                _SharedRLModule
            )

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        """Counts in what implements RLlib's API, by derivation or by registration."""
        rllib_api = imported("ray.rllib.core.rl_module.apis", "SelfSupervisedLossAPI")
        is_our_api = SharedWithRLlib in cls.__bases__
        return (
            True
            if is_our_api and rllib_api is not None and issubclass(subclass, rllib_api)
            else NotImplemented
        )


class _SharedRLModule(abc.ABC):  # noqa: B024 - for issubclass alone
    """Virtual base class of the RLModules that implement our API: `register` takes no class that is being created."""

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        # Not issubclass, with which our API would ask RLlib's in turn.
        return {SharedWithRLlib, imported(*RL_MODULE)} <= {*subclass.__mro__}
