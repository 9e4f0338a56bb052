"""The checks of `check_module`.

Each check is a function that is named after what it demands, and yields a sentence for everything
that does not meet it. To add a check, write one and enter it in `VIOLATIONS` or in `HINTS`.
"""

import math
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss._frameworks import is_mapping
from self_supervised_loss._wrappers import remedy_message
from self_supervised_loss.testing._gradients import is_jax_array
from self_supervised_loss.testing._trial import Trial
from self_supervised_loss.testing._values import fault_as_scalar, shape_of, to_float


def implements_the_api(trial: Trial) -> Iterator[str]:
    """The class derives from our API, or is registered with it, and has the loss method."""
    if isinstance(trial.module, type) or not isinstance(trial.module, SelfSupervisedLossAPI):
        yield f"{trial.name} does not implement SelfSupervisedLossAPI. {remedy_message(trial.module)}"
    elif trial.loss_method is None:
        yield f"{trial.name} has no method compute_self_supervised_loss. Write it."


def takes_more_arguments(trial: Trial) -> Iterator[str]:
    """The loss method has `**kwargs`."""
    if trial.loss_method is not None and not trial.takes_more:
        what_to_do = "Add it, since some learners pass more, as RLlib's TorchMetaLearner does."
        yield f"there is no **kwargs. {what_to_do}"


def is_given_mappings(trial: Trial) -> Iterator[str]:
    """What the loss method reads has names."""
    for name, value in {"batch": trial.batch, "fwd_out": trial.fwd_out}.items():
        if not is_mapping(value):
            what_to_do = "Give each array a name, as in a dict: the loss method was not called."
            yield f"{name} is no mapping but a {type(value).__name__}. {what_to_do}"


def raises_nothing(trial: Trial) -> Iterator[str]:
    """The loss method returns."""
    if trial.error is None:
        return
    raised = f"raised {type(trial.error).__name__}: {trial.error}"
    yield f"compute_self_supervised_loss{_line_in_user_code(trial.error)} {raised}" + (
        ". If that is config, pass config= to check_module."
        if trial.config is None and "NoneType" in str(trial.error)
        else ""
    )


def leaves_its_input_alone(trial: Trial) -> Iterator[str]:
    """Nothing in `batch` or `fwd_out` changes, since others read it too."""
    for name in trial.changes.inputs:
        yield f"{name} is not as before. Leave the input as it is."


def leaves_training_to_the_loop(trial: Trial) -> Iterator[str]:
    """No parameter and no gradient changes."""
    if changed := trial.changes.parameters:
        what_to_do = (
            "Leave backward(), optimizer steps and updates of targets to the training loop."
        )
        yield f"the loss method changed {_listed(changed)}. {what_to_do}"


def leaves_the_training_mode(trial: Trial) -> Iterator[str]:
    """What trains goes on training, and what is evaluated does not."""
    if changed := trial.changes.modes:
        names = _listed(name or "the module" for name in changed)
        yield f"the loss method called train() or eval() on {names}. Put the mode back."


def returns_a_finite_scalar(trial: Trial) -> Iterator[str]:
    """The loss is one real number."""
    if not trial.returned:
        return
    if fault := fault_as_scalar(trial.loss):
        yield f"the loss {fault}. Return one scalar, and log what else there is."
    elif not math.isfinite(loss := to_float(trial.loss)):
        yield f"the loss is {loss}. Look for a division by zero or a logarithm of zero."


def can_be_differentiated(trial: Trial) -> Iterator[str]:
    """`backward()` goes through and, with JAX, `jax.grad`."""
    error, asked = trial.gradients.error, trial.gradients.asked
    if error is None or trial.changes.inputs or trial.changes.parameters:  # which is the cause
        return
    reason = str(error).strip().split("\n")[0].split(". ")[0]
    what_to_do = {
        "backward()": "Change nothing in place, and leave backward() to the training loop.",
        "jax.grad": "Compute with jax.numpy alone: no float(), no NumPy, no if on a value.",
    }
    yield f"{asked} fails with {type(error).__name__}: {reason}. {what_to_do[asked]}"


def has_a_gradient(trial: Trial) -> Iterator[str]:
    """Something is learnt."""
    gradients = trial.gradients.learnable.values()
    if not gradients or any(gradient is not None for gradient in gradients):
        return
    if hasattr(trial.loss, "requires_grad") or is_jax_array(trial.loss):
        yield (
            "the loss has no gradient for any parameter, so that nothing would be learnt. "
            "Make fwd_out with this module and with gradients, and detach nothing on the way to "
            "the loss."
        )
    elif not fault_as_scalar(trial.loss):
        kind = type(trial.loss).__name__
        what_to_do = "Return the tensor, without item() or float()."
        yield f"the loss is a {kind} without a gradient. {what_to_do}"


def has_finite_gradients(trial: Trial) -> Iterator[str]:
    """A finite loss has finite gradients, or else one step makes every weight NaN."""
    gradients = trial.gradients.learnable.items()
    wrong = [name for name, g in gradients if g is not None and not _is_finite(g)]
    if wrong and _is_finite(trial.loss):
        what_to_do = "Look for a root or a norm of zero, which torch.where does not keep away."
        yield f"the gradient of the loss is NaN or infinite for {_listed(wrong)}. {what_to_do}"


def logs_scalars(trial: Trial) -> Iterator[str]:
    """Any logger takes what is logged."""
    for key, value in trial.logged.items():
        if fault := fault_as_scalar(value):
            yield f"the value logged as {key!r} {fault}. Log a scalar."


def rewards_every_row(trial: Trial) -> Iterator[str]:
    """`fwd_out["intrinsic_rewards"]` can be added to the rewards of the environment."""
    rewards = _column(trial.fwd_out, "intrinsic_rewards")
    shape = shape_of(rewards)
    mask_shape = shape_of(_column(trial.batch, "loss_mask"))
    obs_shape = shape_of(_column(trial.batch, "obs"))
    is_right = shape == mask_shape if mask_shape else len(shape) in (1, 2)
    if hasattr(rewards, "shape") and not (is_right and obs_shape[: len(shape)] in ((), shape)):
        what_to_do = "Make one for each row, of shape (B,) or, over time, (B, T)."
        yield f"fwd_out['intrinsic_rewards'] has shape {shape}. {what_to_do}"


def logs_under_its_id(trial: Trial) -> Iterator[str]:
    """No other module logs under the same name."""
    for key in trial.logged:
        if not key[0].startswith(str(trial.module_id)):
            right_key = (trial.module_id, *key)
            yield f"all modules that log {key!r} would share it. Begin with module_id: {right_key}."


def trains_all_parameters(trial: Trial) -> Iterator[str]:
    """What can be trained is trained."""
    unused = [name for name, g in trial.gradients.parameters.items() if g is None]
    if unused and _reaches(trial.gradients.learnable):
        what_to_do = "Freeze them, or ignore this if another loss trains them."
        yield f"the loss has no gradient for {_listed(unused)}. {what_to_do}"


def registers_its_parameters(trial: Trial) -> Iterator[str]:
    """An optimizer of `module.parameters()` sees what the loss is to train."""
    networks = trial.networks
    hidden = [name for name, g in trial.gradients.unregistered.items() if g is not None]
    if hidden:
        what_to_do = "Keep networks in a torch.nn.ModuleList or ModuleDict, or in attributes."
        yield f"no optimizer would see {_listed(hidden)}. {what_to_do}"
    elif (
        networks.is_torch_module
        and not networks.come_and_go
        and not any(parameter.requires_grad for parameter in networks.parameters.values())
    ):
        what_to_do = "Register its networks, and do not freeze all of them."
        yield f"{trial.name} has no parameter that an optimizer could train. {what_to_do}"


def reads_fwd_out(trial: Trial) -> Iterator[str]:
    """The forward pass is run by the training loop alone."""
    outputs = trial.gradients.outputs
    # An output of frozen networks has no graph, so that it cannot be told whether it is read.
    could_be_read = outputs or not [*trial.fwd_out.keys()]
    if _reaches(trial.gradients.parameters) and could_be_read and not _reaches(outputs):
        yield (
            "the loss reaches the parameters, but not through fwd_out. Networks that the loss "
            "method runs itself cost twice the work, BatchNorm counts the batch twice, and DDP may "
            "not average their gradients: read fwd_out."
        )


def trains_no_other_module(trial: Trial) -> Iterator[str]:
    """The gradient ends at the batch."""
    if trained := [name for name, g in trial.gradients.columns.items() if g is not None]:
        what_to_do = "Detach them, or ignore this if that is meant."
        yield f"the loss also trains what {_listed(trained)} comes from. {what_to_do}"


def leaves_masked_rows_out(trial: Trial) -> Iterator[str]:
    """Rows where `loss_mask` is False are not learnt from."""
    mask = _column(trial.batch, "loss_mask")
    shape = shape_of(mask)
    learnt_from = [
        name
        for name, gradient in trial.gradients.outputs.items()
        if gradient is not None and not getattr(gradient, "is_meta", False)
        if shape and shape_of(gradient)[: len(shape)] == shape and gradient[mask == 0].any()
    ]
    if learnt_from:
        what_to_do = "Leave those rows out of the loss: they are padding."
        yield (
            "the loss also learns where batch['loss_mask'] is False, from "
            f"{_listed(learnt_from)}. {what_to_do}"
        )


def keeps_no_graph(trial: Trial) -> Iterator[str]:
    """No step leads back into the one before."""
    if kept := trial.kept_graphs:
        what_to_do = "Detach it there, or else backward() fails in the next step that reads it."
        yield f"the graph of this step is kept in {_listed(kept)}. {what_to_do}"


def leaves_buffers_to_the_loop(trial: Trial) -> Iterator[str]:
    """A loss can be computed without training."""
    if changed := trial.changes.buffers:
        what_to_do = "Leave that to the training loop: losses are also computed to evaluate."
        yield f"the loss method changed the buffers {_listed(changed)}. {what_to_do}"


VIOLATIONS = (
    implements_the_api,
    takes_more_arguments,
    is_given_mappings,
    raises_nothing,
    leaves_its_input_alone,
    leaves_training_to_the_loop,
    leaves_the_training_mode,
    returns_a_finite_scalar,
    can_be_differentiated,
    has_a_gradient,
    has_finite_gradients,
    logs_scalars,
    rewards_every_row,
)
HINTS = (
    logs_under_its_id,
    trains_all_parameters,
    registers_its_parameters,
    reads_fwd_out,
    trains_no_other_module,
    leaves_masked_rows_out,
    keeps_no_graph,
    leaves_buffers_to_the_loop,
)


def _listed(names: Iterable[str]) -> str:
    first, rest = [*names][:5], [*names][5:]
    return ", ".join(first) + (f" and {len(rest)} more" if rest else "")


def _reaches(gradients: Mapping[str, Any]) -> bool:
    return any(gradient is not None for gradient in gradients.values())


def _is_finite(array: Any) -> bool:
    if getattr(array, "is_meta", False):
        return True
    dense = array.to_dense() if hasattr(array, "to_dense") else array
    return bool((dense - dense == 0).all())  # in any framework: inf - inf is NaN


def _column(data: Any, name: str) -> Any:
    return data[name] if is_mapping(data) and name in data.keys() else None


def _line_in_user_code(error: Exception) -> str:
    """Returns the last line in the file of the loss method, behind a decorator and before torch."""
    frames = traceback.extract_tb(error.__traceback__)[2:]  # after those of the trial
    files = {
        frame.filename
        for frame in frames
        if frame is frames[0] or frame.name == "compute_self_supervised_loss"
    }
    lines = [f" ({f.filename}:{f.lineno})" for f in frames if f.filename in files]
    return lines[-1] if lines else ""
