"""The interface: what a module with a loss of its own implements."""

import abc
from typing import Any, Generic

from typing_extensions import TypeVar

from self_supervised_loss._bridge import SharedWithRLlib

ModuleID = str  # names a module among those that are trained together

# The types of a loss, such as torch.Tensor, of a module's configuration, and of the learner.
TensorT = TypeVar("TensorT", default=Any)
ConfigT = TypeVar("ConfigT", default=Any)
LearnerT = TypeVar("LearnerT", default=Any)


class SelfSupervisedLossAPI(SharedWithRLlib, Generic[TensorT, ConfigT, LearnerT]):
    """Implemented by a module that has its own loss, such as a curiosity module or a world model.

    A learner calls the loss method of such a module, once per batch. For every other module, it
    computes the loss itself:

        if isinstance(module, SelfSupervisedLossAPI):
            loss = module.compute_self_supervised_loss(learner=learner, module_id=..., ...)
        else:
            loss = learner.compute_loss_for_module(module_id=..., ...)

    Derive from this class and from the module class of your framework. Or register a class that you
    cannot change, or whose metaclass conflicts, with `SelfSupervisedLossAPI.register`. A method of
    the right name is not enough. The type arguments may be left out.

    Names and meaning are those of RLlib's `SelfSupervisedLossAPI` (Ray 2.60,
    `ray.rllib.core.rl_module.apis`). A class that implements RLlib's implements this one, and an
    `RLModule` that implements this one implements RLlib's.
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

        It is about this module alone. For a loss across modules, override
        `Learner.compute_losses`.

        In data parallel training, such as DDP, compute `fwd_out` by the wrapped module, and use its
        parameters nowhere else. If a loss method runs a network again, or uses a parameter itself,
        DDP does not average that gradient: the processes drift apart without an error, and with
        `find_unused_parameters=True` or FSDP torch raises one.

        Args:
            learner: The learner that calls. Every learner has `learner.module[module_id]`,
                `learner.config`, `learner.metrics.log_value(...)` and
                `learner.metrics.log_dict(...)`: use nothing else of it.
            module_id: The ID of this module, also the first name of what it logs.
            config: The configuration of this module.
            batch: The data of this module by column (`"obs"`, `"actions"`, ...): tensors of shape
                `(B, ...)`, or `(B, T, ...)` for sequences, as RLlib gives them to recurrent
                policies. A `"loss_mask"`, of shape `(B,)` or `(B, T)`, is False for rows that are
                not to be learnt from: padding, and the row that RLlib's PPO adds to each episode.
            fwd_out: The output of this module's forward pass on `batch`, by name. A module that
                rewards exploration returns its rewards as `fwd_out["intrinsic_rewards"]`, of shape
                `(B,)`, as in RLlib. How they are used is up to the training loop.
            **kwargs: What else the learner passes, such as `others_loss_per_module` from RLlib's
                `TorchMetaLearner`.

        Returns:
            The loss, a differentiable scalar of shape `()`. A module with several terms logs the
            terms and returns their weighted sum. That also holds with several optimizers on one
            module: the parameters of each get the gradient of the terms that they take part in.
        """
