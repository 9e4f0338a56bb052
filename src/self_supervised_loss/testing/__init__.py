"""`check_module` finds the mistakes in a module that has its own loss.

Call it in a test, with a small batch:

    def test_rnd():
        rnd = RND(obs_size=4)
        batch = {"new_obs": torch.randn(8, 4)}
        check_module(rnd, batch=batch, fwd_out=rnd(batch))

In JAX, pass the forward pass as a function, so mistakes in it are found too:

    check_module(model, batch=batch, fwd_out=lambda model: model(batch))

A mistake raises `AssertionError`, so the test fails. Anything that may be intentional is a
`UserWarning`. Turn it off by the beginning of its text:

    @pytest.mark.filterwarnings("ignore:The loss has no gradient for decoder")
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from self_supervised_loss.testing._checks import HINTS, VIOLATIONS
from self_supervised_loss.testing._trial import make_trial, prepare_call

__all__ = ["check_module"]


def check_module(
    module: Any,
    *,
    batch: Mapping[str, Any],
    fwd_out: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]],
    config: Any = None,
    module_id: str = "module",
    **kwargs: Any,
) -> Any:
    """Checks that a module runs under every learner and that its loss trains it.

    The loss method is called once, as learners call it. With JAX, it is called once more with
    tracers, as under `jax.jit`. A module that passes has the same parameters and gradients as
    before, except weights that torch itself renormalises. A module that fails stays as its loss
    method left it, but torch's grad mode, default dtype and autocast are restored.

    There are limits:

    - These mistakes are found in PyTorch only: parameters without a gradient or without an
      optimizer, networks that the loss method runs again, gradients into the batch, shapes that
      broadcast, a softmax applied twice, graphs that are kept, and changes of parameters, buffers,
      training modes and settings.
    - Parameters of FSDP, of lazy modules, and behind reentrant checkpoints or custom functions are
      not seen.
    - A frozen network with BatchNorm that `forward` runs in training mode looks right in one call.

    Args:
        module: The module, wrapped or not.
        batch: A small batch of the module's data, by column.
        fwd_out: The output of the module's forward pass on `batch`, with gradients. Or a function
            that computes it with a module: JAX arrays have no graph, so mistakes in the forward
            pass are found only if it can be run again.
        config: The configuration that the module reads, if any.
        module_id: The ID under which the loss method is called.
        **kwargs: Passed on to the loss method, as `Learner.compute_losses` does.

    Returns:
        The loss, with its graph.

    Raises:
        AssertionError: If the module breaks the contract. The message lists all violations.
    """
    __tracebackhide__ = True
    call = prepare_call(
        module, batch=batch, fwd_out=fwd_out, config=config, module_id=module_id, extras=kwargs
    )
    trial = make_trial(call)
    if violations := [message for check in VIOLATIONS for message in check(trial)]:
        title = f"{call.name} breaks the contract of SelfSupervisedLossAPI:"
        raise AssertionError("\n- ".join([title, *violations])) from trial.error
    for message in [message for check in HINTS for message in check(trial)]:
        warnings.warn(message, stacklevel=2)
    return trial.loss
