"""Connects our API with the one of the same name in Ray RLlib. Nothing here imports RLlib first."""

import importlib

from self_supervised_loss._frameworks import find_imported

_APIS = "ray.rllib.core.rl_module.apis"


def is_rl_module_class(a_class: type) -> bool:
    """Returns whether a class derives from RLlib's `RLModule`."""
    rl_module = find_imported("ray.rllib.core.rl_module.rl_module", "RLModule")
    # Not issubclass: it would call back into the two APIs.
    return rl_module in a_class.__mro__


def implements_rllib_api(a_class: type) -> bool:
    """Returns whether a class derives from RLlib's API or is registered with it."""
    rllib_api = find_imported(_APIS, "SelfSupervisedLossAPI")
    return rllib_api is not None and issubclass(a_class, rllib_api)


def register_with_rllib(a_class: type) -> None:
    """Registers a class with RLlib's API, in a program that has imported `RLModule`."""
    # The program may not have imported the APIs yet.
    importlib.import_module(_APIS).SelfSupervisedLossAPI.register(a_class)
