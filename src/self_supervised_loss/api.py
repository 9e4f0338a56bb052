"""The interface: what a module implements that brings its own loss."""

import abc
import importlib
import sys
from typing import Any, Generic

from typing_extensions import TypeVar

ModuleID = str  # names a module among those that are trained together

# What a loss is, such as torch.Tensor, what the module is configured with, and what asks it for its loss.
TensorT = TypeVar("TensorT", default=Any)
ConfigT = TypeVar("ConfigT", default=Any)
LearnerT = TypeVar("LearnerT", default=Any)


class SelfSupervisedLossAPI(abc.ABC, Generic[TensorT, ConfigT, LearnerT]):
    """Implemented by a module that brings its own loss, such as a curiosity or a world model.

    A learner asks such a module for its loss, once per batch, and computes the loss of every other module itself:

        if isinstance(module, SelfSupervisedLossAPI):
            loss = module.compute_self_supervised_loss(learner=learner, module_id=..., ...)
        else:
            loss = learner.compute_loss_for_module(module_id=..., ...)

    Derive from this class beside the module class of your framework, or register a class that you cannot change with
    `SelfSupervisedLossAPI.register`. Having a method of the right name is not enough. The type arguments, each of
    which may be left out, are the types of the loss, of the configuration and of the learner.

    Names and meaning are those of RLlib's `SelfSupervisedLossAPI` (Ray 2.60, `ray.rllib.core.rl_module.apis`). A class
    that derives from this one and from RLlib's `RLModule` implements RLlib's as well, in every process, and whatever
    implements RLlib's implements this one.
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Makes the class implement RLlib's API too, if it is an `RLModule`."""
        super().__init_subclass__(**kwargs)
        if _rllib("rl_module", "RLModule") in cls.__mro__:  # so RLlib is there, though perhaps not yet its APIs
            importlib.import_module("ray.rllib.core.rl_module.apis").SelfSupervisedLossAPI.register(_OurRLModules)

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        """Counts in what implements RLlib's API, by derivation or by registration."""
        rllib_api = _rllib("apis", "SelfSupervisedLossAPI")
        if cls is SelfSupervisedLossAPI and rllib_api is not None and issubclass(subclass, rllib_api):
            return True
        return NotImplemented

    @abc.abstractmethod
    def compute_self_supervised_loss(
        self,
        *,
        learner: LearnerT,
        module_id: ModuleID,
        config: ConfigT,
        batch: dict[str, Any],
        fwd_out: dict[str, TensorT],
        **kwargs: Any,
    ) -> TensorT:
        """Computes the loss of this module on one batch, after its forward pass.

        Args:
            learner: The learner that calls. Whichever it is, it has `learner.module[module_id]`, `learner.config`,
                `learner.metrics.log_value(...)` and `learner.metrics.log_dict(...)`. A module that asks for nothing
                else works with every learner.
            module_id: The ID of this module, also the natural key for what it logs.
            config: The configuration that holds for this module.
            batch: The data of this module by column (`"obs"`, `"actions"`, ...), tensors of shape `(B, ...)`.
            fwd_out: The output of this module's forward pass on `batch`, by name.
            **kwargs: What else the learner passes, such as `others_loss_per_module` from RLlib's `TorchMetaLearner`.

        Returns:
            The loss, a differentiable scalar of shape `()`. A module with several loss terms returns their weighted
            sum and logs the terms through `learner.metrics`.
        """


class _OurRLModules(abc.ABC):  # noqa: B024
    """Stands for all classes that derive from our API and from `RLModule`, registered with RLlib's API in their place.

    They cannot be registered while they are created: until then they share the caches of their first base, in which
    `register` finds an inheritance cycle.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        # Not issubclass, with which our API would ask RLlib's in turn.
        return SelfSupervisedLossAPI in subclass.__mro__ and _rllib("rl_module", "RLModule") in subclass.__mro__


def _rllib(module: str, name: str) -> Any:
    """Returns a class of RLlib's if RLlib has been imported. It is not imported for this."""
    return getattr(sys.modules.get(f"ray.rllib.core.rl_module.{module}"), name, None)
