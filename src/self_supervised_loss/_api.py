"""The interface: the one method that a module with its own loss implements."""

import abc
from typing import Any, Generic

from typing_extensions import TypeVar

from self_supervised_loss._bridge import (
    implements_rllib_api,
    is_rl_module_class,
    register_with_rllib,
)

ModuleID = str  # names a module among the modules that are trained together

TensorT = TypeVar("TensorT", default=Any)  # a loss or an output, such as torch.Tensor
ConfigT = TypeVar("ConfigT", default=Any)  # the configuration of a module
LearnerT = TypeVar("LearnerT", default=Any)  # the learner that calls the loss method
_T = TypeVar("_T")


class SelfSupervisedLossAPI(abc.ABC, Generic[TensorT, ConfigT, LearnerT]):
    """The interface of a module that brings its own loss, such as a curiosity or world model.

    Derive your module from this class and from your framework's module class, and define the loss
    method:

        class RND(torch.nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
            ...

            def compute_self_supervised_loss(self, *, learner, module_id, fwd_out, **kwargs):
                loss = fwd_out["intrinsic_rewards"].mean()
                learner.metrics.log_value((module_id, "loss"), loss)
                return loss

    A learner calls this method once per batch. For a module that does not implement the interface,
    the learner computes a loss with its `compute_loss_for_module`.

    If you cannot change a class, or its metaclass conflicts, register it with
    `SelfSupervisedLossAPI.register`. A method with the right name is not enough. The type
    arguments, of tensors, configurations and learners, are optional.

    The interface is RLlib's class of the same name (Ray 2.60, `ray.rllib.core.rl_module.apis`). A
    class that implements RLlib's implements this one, too. An `RLModule` that implements this one
    implements RLlib's, too.
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Makes RLlib call the loss method of an `RLModule`, also in Ray's worker processes."""
        super().__init_subclass__(**kwargs)
        if is_rl_module_class(cls):
            register_with_rllib(_RLModuleWithLoss)

    @classmethod
    def register(cls, subclass: type[_T]) -> type[_T]:
        """Registers a class that you cannot change, and an `RLModule` with RLlib's API as well."""
        abc.ABCMeta.register(cls, subclass)
        if is_rl_module_class(subclass):
            register_with_rllib(subclass)
        return subclass

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        """Accepts a class that implements RLlib's API."""
        if cls is SelfSupervisedLossAPI and implements_rllib_api(subclass):
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
        """Computes the loss of this module on one batch, after the module's forward pass.

        The loss covers this module only. For a loss across modules, override
        `Learner.compute_losses`.

        Args:
            learner: The learner that calls the method. Use only `learner.module[module_id]`,
                `learner.config`, `learner.metrics.log_value(...)` and
                `learner.metrics.log_dict(...)`. Every learner provides them.
            module_id: The ID of this module. Use it as the first name of each logged key.
            config: The configuration of this module.
            batch: The data of this module by column (`"obs"`, `"actions"`, ...). Each column is a
                tensor of shape `(B, ...)`, or `(B, T, ...)` for sequences. If there is a
                `"loss_mask"`, of shape `(B,)` or `(B, T)`, it is False for rows to leave out of
                the loss: padding, and the extra row that RLlib's PPO appends to each episode.
            fwd_out: The output of this module's forward pass on `batch`, by name. A module that
                rewards exploration returns `fwd_out["intrinsic_rewards"]`, with the shape of the
                rewards, `(B,)` or `(B, T)`. The training loop decides how to use them.
            **kwargs: Further arguments of the learner, such as `others_loss_per_module` from
                RLlib's `TorchMetaLearner`.

        Returns:
            The loss, a differentiable scalar of shape `()`. A module with several terms returns
            their weighted sum and logs each term. If several optimizers train one module, the
            parameters of each optimizer get the gradient of the terms that depend on them.

        Note:
            Under DistributedDataParallel (DDP), call the wrapper for `fwd_out`. With its default
            settings, the loss method may use the module's parameters again, and their gradients
            are averaged. Under `find_unused_parameters=True`, torch raises an error if the loss
            method uses a parameter that the forward pass did not use. Under FSDP, use parameters in
            the forward pass only: elsewhere, a parameter may be sharded.
        """


class _RLModuleWithLoss(abc.ABC):  # noqa: B024 - only issubclass uses it
    """Virtual base class of the `RLModule`s that derive from our API.

    RLlib's API accepts this class in place of each of them, because `register` cannot take a class
    that is still being created.
    """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        return is_rl_module_class(subclass) and SelfSupervisedLossAPI in subclass.__mro__
