"""The interface: what a module implements that brings its own loss."""

import abc
from typing import Any, Generic

from typing_extensions import TypeVar

ModuleID = str
"""Names a module among those that are trained together."""

TensorT = TypeVar("TensorT", default=Any)
"""What a loss is: `torch.Tensor`, `jax.Array`, `float`."""

ConfigT = TypeVar("ConfigT", default=Any)
"""What a module is configured with: a dataclass, a dict, RLlib's `AlgorithmConfig`."""

LearnerT = TypeVar("LearnerT", default=Any)
"""What calls the module: a subclass of `Learner`, or a learner of RLlib's."""


class SelfSupervisedLossAPI(abc.ABC, Generic[TensorT, ConfigT, LearnerT]):
    """Implemented by a module that brings its own loss, such as a curiosity or a world model.

    A learner asks such a module for its loss, once per batch, and computes the loss of every other module itself:

        if isinstance(module, SelfSupervisedLossAPI):
            loss = module.compute_self_supervised_loss(learner=learner, module_id=..., ...)
        else:
            loss = learner.compute_loss_for_module(module_id=..., ...)

    Derive from this class beside the module class of your framework, or register a class you cannot change with
    `SelfSupervisedLossAPI.register`. Having a method of the right name is not enough.

    The type arguments are those of the loss, the configuration and the learner. Each may be left out.

    The names and their meaning are those of RLlib's `SelfSupervisedLossAPI` (Ray 2.60,
    `ray.rllib.core.rl_module.apis`).
    """

    __slots__ = ()

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
        """Computes the loss of this module on one batch.

        The module's forward pass has already run: `fwd_out` is what it returned.

        Args:
            learner: The learner that calls. Whichever it is, it has `learner.module[module_id]`, `learner.config`,
                `learner.metrics.log_value(...)` and `learner.metrics.log_dict(...)`. Ask it for nothing else, and
                the module works with every learner.
            module_id: The ID of this module, also the natural key for what it logs.
            config: The configuration that holds for this module.
            batch: The data of this module by column (`"obs"`, `"actions"`, ...), tensors of shape `(B, ...)`.
            fwd_out: The output of this module's forward pass on `batch`, by name.
            **kwargs: What else the learner passes. Accept it even if unused: RLlib's `TorchMetaLearner`, for one,
                passes `others_loss_per_module`.

        Returns:
            The loss, a differentiable scalar of shape `()`. A module with several loss terms returns their weighted
            sum and logs the terms through `learner.metrics`.
        """
