"""The test kit: `check_module` holds a module against the contract of `SelfSupervisedLossAPI`.

Call it in a test, with a small batch:

    def test_rnd():
        rnd = RND(obs_size=4)
        batch = {"new_obs": torch.randn(8, 4)}
        check_module(rnd, batch=batch, fwd_out=rnd(batch))
"""

import warnings
from collections.abc import Mapping
from typing import Any

from self_supervised_loss.testing._checks import HINTS, VIOLATIONS
from self_supervised_loss.testing._trial import Trial

__all__ = ["check_module"]


def check_module(
    module: Any,
    *,
    batch: Mapping[str, Any],
    fwd_out: Mapping[str, Any],
    config: Any = None,
    module_id: str = "module",
) -> Any:
    """Checks that a module works with every learner and learns, as Gymnasium's `check_env` does.

    The loss method is called once, as learners call it. Afterwards the parameters, gradients and
    training modes of torch modules are put back, and the random state of Python, NumPy and torch on
    the CPU. Buffers and other attributes, generators of the module's own, the random state of a GPU
    and the state of JAX modules stay as the call left them.

    What may be meant is a `UserWarning`, such as parameters without a gradient.

    Parameters that come and go are not looked at: those of FSDP and of lazy modules. A change
    through `.data` shows only if it changes numbers.

    With JAX, the loss method is called once more under `jax.jit(jax.grad(...))`, with a copy of the
    module, for the gradient by the floating-point arrays of `fwd_out` and of the module. Of a
    module that is no pytree, as in Flax linen, it asks for the gradient by `fwd_out` alone.

    Args:
        module: The module, wrapped or not.
        batch: A small batch of the module's data, by column.
        fwd_out: The output of the module's forward pass on `batch`, with gradients.
        config: The configuration that the module reads, if any.
        module_id: The ID under which the loss method is called.

    Returns:
        The loss, with its graph.

    Raises:
        AssertionError: If the module breaks the contract. The message lists every violation and
            what to do.
    """
    __tracebackhide__ = True
    trial = Trial(module, batch=batch, fwd_out=fwd_out, config=config, module_id=module_id)
    trial.run()
    if violations := [sentence for check in VIOLATIONS for sentence in check(trial)]:
        title = f"{trial.name} breaks the contract of SelfSupervisedLossAPI:"
        raise AssertionError("\n- ".join([title, *violations])) from trial.error
    if hints := [sentence for check in HINTS for sentence in check(trial)]:
        warnings.warn("\n".join(hints), stacklevel=2)
    return trial.loss
