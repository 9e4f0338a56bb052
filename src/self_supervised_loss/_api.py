"""The interface: what a module implements that brings its own loss."""

import abc
from typing import Any, Generic

from typing_extensions import TypeVar

from self_supervised_loss._bridge import SharedWithRLlib

ModuleID = str  # names a module among those that are trained together

# What a loss is, such as torch.Tensor, what the module is configured with, and what calls its loss method.
TensorT = TypeVar("TensorT", default=Any)
ConfigT = TypeVar("ConfigT", default=Any)
LearnerT = TypeVar("LearnerT", default=Any)


class SelfSupervisedLossAPI(SharedWithRLlib, Generic[TensorT, ConfigT, LearnerT]):
    """Implemented by a module that brings its own loss, such as a curiosity or a world model.

    A learner calls the loss method of such a module, once per batch, and computes the loss of every other module:

        if isinstance(module, SelfSupervisedLossAPI):
            loss = module.compute_self_supervised_loss(learner=learner, module_id=..., ...)
        else:
            loss = learner.compute_loss_for_module(module_id=..., ...)

    Derive from this class beside the module class of your framework, or register a class that you cannot change with
    `SelfSupervisedLossAPI.register`. A method of the right name is not enough. The type arguments may be left out.

    Names and meaning are those of RLlib's `SelfSupervisedLossAPI` (Ray 2.60, `ray.rllib.core.rl_module.apis`). What
    implements RLlib's implements this one, and an `RLModule` that derives from this one implements RLlib's.
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
        """Computes the loss of this module on one batch, after its forward pass.

        It is about this one module: a loss across modules belongs into an override of `Learner.compute_losses`.

        Args:
            learner: The learner that calls. All have `learner.module[module_id]`, `learner.config`,
                `learner.metrics.log_value(...)` and `learner.metrics.log_dict(...)`: use nothing else of it.
            module_id: The ID of this module, also the first name of what it logs.
            config: The configuration of this module.
            batch: The data of this module by column (`"obs"`, `"actions"`, ...), tensors of shape `(B, ...)`, or
                `(B, T, ...)` where the data are sequences, as RLlib gives them to recurrent policies. A `"loss_mask"`,
                of shape `(B,)` or `(B, T)`, is False for rows that are not to be learnt from: padding, and the row
                that RLlib's PPO adds to each episode.
            fwd_out: The output of this module's forward pass on `batch`, by name. A module that rewards exploration
                has its rewards in `fwd_out["intrinsic_rewards"]`, of shape `(B,)`, as in RLlib. How they are used is
                up to the training loop.
            **kwargs: What else the learner passes, such as `others_loss_per_module` from RLlib's `TorchMetaLearner`.

        Returns:
            The loss, a differentiable scalar of shape `()`. A module with several terms returns their weighted sum
            and logs the terms. That also holds with several optimizers on one module: each optimizer's parameters get
            the gradient of the terms that they take part in.
        """
