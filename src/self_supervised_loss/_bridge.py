"""The bridge to Ray RLlib: its API of the same name and ours are one. It never imports Ray."""

import abc
import importlib
from typing import Any, TypeVar

from self_supervised_loss._frameworks import find_imported

RL_MODULE = "ray.rllib.core.rl_module.rl_module", "RLModule"
_RLLIB_APIS = "ray.rllib.core.rl_module.apis"

_T = TypeVar("_T")


class SharedWithRLlib(abc.ABC):  # noqa: B024 - our API, its only direct subclass, has the abstract method
    """Base of our API."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Makes RLlib call the loss method of a new `RLModule` class, also in Ray's workers."""
        super().__init_subclass__(**kwargs)
        if find_imported(*RL_MODULE) in cls.__mro__:
            _rllib_api().register(_SharedRLModule)

    @classmethod
    def register(cls, subclass: type[_T]) -> type[_T]:
        """Registers a class that cannot be changed, an `RLModule` with RLlib's API as well."""
        rl_module = find_imported(*RL_MODULE)
        if rl_module is not None and issubclass(subclass, rl_module):
            _rllib_api().register(subclass)
        return abc.ABCMeta.register(cls, subclass)

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        """Counts in what implements RLlib's API, by derivation or by registration."""
        is_our_api = SharedWithRLlib in cls.__bases__
        rllib_api = find_imported(_RLLIB_APIS, "SelfSupervisedLossAPI")
        if is_our_api and rllib_api is not None and issubclass(subclass, rllib_api):
            return True
        return NotImplemented


class _SharedRLModule(abc.ABC):  # noqa: B024 - for issubclass alone
    """Virtual base class of the RLModules that derive from our API.

    RLlib's API knows them by it, since `register` takes no class that is still being created.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        # Not issubclass, with which our API would ask RLlib's in turn.
        return {SharedWithRLlib, find_imported(*RL_MODULE)} <= {*subclass.__mro__}


def _rllib_api() -> Any:
    # Where there is an RLModule, RLlib is imported, though perhaps not yet its APIs.
    return importlib.import_module(_RLLIB_APIS).SelfSupervisedLossAPI
