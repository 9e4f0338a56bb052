"""The checks of `check_module`, one function per rule.

A check is named after its rule, a verb phrase about the module or its loss method. It yields one
message per fault: a line that states the fault, and an indented line with the advice.

To add a check, write the function and enter it in `VIOLATIONS` if no training loop can want the
fault, or in `HINTS` if it may be intentional. Messages appear in the order of these lists.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from traceback import FrameSummary, extract_tb
from types import CoroutineType
from typing import Any

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss._frameworks import is_mapping, is_torch_tensor
from self_supervised_loss._wrappers import remedy_message
from self_supervised_loss.testing._graph import find_copies
from self_supervised_loss.testing._jax import is_jax_array
from self_supervised_loss.testing._trial import Trial
from self_supervised_loss.testing._values import (
    extremes,
    is_discrete,
    is_finite,
    scalar_fault,
    shape_of,
    to_float,
)

# Violations


def implements_the_api(trial: Trial) -> Iterator[str]:
    """The class derives from the API or is registered with it, and has the loss method."""
    module, name = trial.call.module, trial.call.name
    if not isinstance(module, SelfSupervisedLossAPI):
        yield f"{name} does not implement SelfSupervisedLossAPI.\n  {remedy_message(module)}"
    elif trial.call.loss_method is None:
        yield (
            f"{name} has no method compute_self_supervised_loss.\n"
            "  Define it with the parameters that it has in SelfSupervisedLossAPI."
        )


def accepts_all_arguments(trial: Trial) -> Iterator[str]:
    """The loss method accepts the arguments of any learner."""
    if missing := trial.call.not_accepted:
        yield (
            f"compute_self_supervised_loss does not accept {_listed(missing)}.\n"
            "  Add **kwargs: learners pass all arguments of the API, and some pass more."
        )


def reads_mappings(trial: Trial) -> Iterator[str]:
    """The loss method finds its data by name."""
    for name, value in {"batch": trial.call.batch, "fwd_out": trial.call.fwd_out}.items():
        if not is_mapping(value):
            advice = f"{name}._asdict()" if hasattr(value, "_asdict") else "a dict"
            yield (
                f"{name} must be a mapping, got {type(value).__name__}.\n"
                f"  Pass {advice}. The loss method was not called."
            )


def raises_no_exception(trial: Trial) -> Iterator[str]:
    """The loss method returns."""
    if trial.error is not None:
        quoted, location = _quoted(trial.error), _location(trial, _frames(trial.error))
        yield f"compute_self_supervised_loss raised {quoted}{location}{_advice(trial)}"


def leaves_its_input_alone(trial: Trial) -> Iterator[str]:
    """Nothing in `batch` or `fwd_out` changes, since other modules and the loop read it too."""
    for name in trial.changed_inputs:
        yield f"The loss method changed {name}.\n  Change a copy: other code may read it, too."


def leaves_training_to_the_loop(trial: Trial) -> Iterator[str]:
    """No parameter and no gradient changes."""
    if trial.changed_parameters:
        yield (
            f"The loss method changed {_listed(trial.changed_parameters)}.\n"
            "  Leave backward(), optimizer steps and target updates to the training loop."
        )


def keeps_the_training_mode(trial: Trial) -> Iterator[str]:
    """No module is switched to training or to evaluation."""
    if trial.changed_modes:
        names = _listed(name or "the module" for name in trial.changed_modes)
        yield (
            f"The loss method called train() or eval() on {names}.\n"
            "  Leave the training mode to the training loop."
        )


def restores_settings(trial: Trial) -> Iterator[str]:
    """Torch's global settings do not leak into other code."""
    if trial.changed_settings:
        yield (
            f"The loss method did not restore torch's {_listed(trial.changed_settings)}.\n"
            "  Change settings in a `with` block only."
        )


def returns_a_finite_scalar(trial: Trial) -> Iterator[str]:
    """The loss is one real number."""
    if trial.error is not None or not trial.call.can_be_made:
        return
    if isinstance(trial.loss, CoroutineType):
        trial.loss.close()  # otherwise Python also warns that nothing awaited it
        yield "The loss method is async.\n  Define it without async."
    elif fault := scalar_fault(trial.loss):
        yield f"The loss {fault}.\n  Return one scalar, and log any other values."
    elif not math.isfinite(loss := to_float(trial.loss)):
        yield f"The loss is {loss}.\n  Look for a division by zero or a logarithm of zero."


def can_be_differentiated(trial: Trial) -> Iterator[str]:
    """`backward()` or `jax.grad` computes the gradient."""
    error = trial.graph.error
    if error is None or trial.changed_inputs or trial.changed_parameters:  # which cause it
        return
    if is_torch_tensor(trial.loss):
        advice = "Change no tensor in place, and leave backward() to the training loop."
        yield f"backward() raises {_quoted(error)}\n  {advice}"
    else:
        is_of_a_tracer = type(error).__module__ == "jax.errors"
        advice = "Use jax.numpy throughout: no NumPy, no float(), no `if` on a value."
        location = _location(trial, _frames(error))
        end = f"{location}\n  {advice}" if is_of_a_tracer else location
        yield f"jax.grad raises {_quoted(error)}{end}"


def has_a_gradient(trial: Trial) -> Iterator[str]:
    """The loss trains something."""
    graph = trial.graph
    is_array = is_torch_tensor(trial.loss) or is_jax_array(trial.loss)
    if is_array and is_discrete(trial.loss):
        yield (
            f"The loss is of type {trial.loss.dtype}, which has no gradient.\n"
            "  Look for an argmax or a comparison on the way to the loss."
        )
    elif not graph.is_complete or any(g is not None for g in graph.gradients.values()):
        return
    elif is_array:
        yield (
            "The loss has no gradient for any parameter.\n"
            "  Compute fwd_out with this module and with gradients, freeze only some of its\n"
            "  parameters, and detach nothing on the way to the loss."
        )
    elif graph.gradients and not scalar_fault(trial.loss):
        yield (
            f"The loss is a {type(trial.loss).__name__}, which has no gradient.\n"
            "  Return the tensor, without item() or float()."
        )


def has_finite_gradients(trial: Trial) -> Iterator[str]:
    """A finite loss has finite gradients. Otherwise one step makes every weight NaN."""
    gradients = trial.graph.gradients.items()
    wrong = [name for name, g in gradients if g is not None and not is_finite(g)]
    if wrong and is_finite(trial.loss):
        where = "torch.where" if is_torch_tensor(trial.loss) else "jnp.where"
        yield (
            f"The gradient of the loss is NaN or infinite for {_listed(wrong)}.\n"
            f"  Look for a square root or norm taken at zero; `{where}` does not prevent this."
        )


def logs_scalars(trial: Trial) -> Iterator[str]:
    """Any logger accepts the logged values."""
    for key, value in trial.logged.items():
        if fault := scalar_fault(value):
            yield f"The value logged as {key!r} {fault}.\n  Log a scalar."


def masks_every_row(trial: Trial) -> Iterator[str]:
    """`batch["loss_mask"]` has the shape of the rows."""
    mask = _shapes(trial.call.batch).get("loss_mask", ())
    if _is_column(mask, trial):
        yield (
            f"batch['loss_mask'] has shape {mask}, expected {mask[:-1]}.\n"
            "  Squeeze its last axis: it would broadcast against the rows."
        )


def rewards_every_row(trial: Trial) -> Iterator[str]:
    """`fwd_out["intrinsic_rewards"]` can be added to the rewards of the environment."""
    rewards = _column(trial.call.fwd_out, "intrinsic_rewards")
    shape, expected = shape_of(rewards), _shapes_of_rewards(trial)
    is_right = shape in expected if expected else len(shape) in (1, 2)
    if shape and expected == [(*shape, 1)]:
        yield (
            f"batch['rewards'] has shape {expected[0]}, expected {shape}.\n"
            "  Squeeze its last axis: it would broadcast against the rows."
        )
    elif hasattr(rewards, "shape") and not is_right:
        names = " or ".join(map(str, expected)) or "(B,) or (B, T)"
        yield (
            f"fwd_out['intrinsic_rewards'] has shape {shape}, expected {names}.\n"
            "  Return one reward for each row, to be added to batch['rewards']."
        )
    if not is_finite(rewards):
        yield (
            "fwd_out['intrinsic_rewards'] is NaN or infinite.\n"
            "  Look for a division by zero or a logarithm of zero."
        )


# Hints


def logs_under_its_id(trial: Trial) -> Iterator[str]:
    """No other module logs under the same key."""
    module_id = trial.call.module_id
    for key in trial.logged:
        if not key[0].startswith(str(module_id)):
            yield (
                f"The key {key!r} does not begin with the module ID.\n"
                f"  Other modules may log under it, too. Use {(module_id, *key)!r}."
            )


def trains_all_parameters(trial: Trial) -> Iterator[str]:
    """Parameters that are not frozen get a gradient."""
    graph = trial.graph
    unused = [name for name in graph.registered if graph.gradients[name] is None]
    if unused and graph.is_complete:
        yield (
            f"The loss has no gradient for {_listed(unused)}.\n"
            "  Freeze them, or ignore this if another loss trains them."
        )


def has_a_nonzero_gradient(trial: Trial) -> Iterator[str]:
    """A loss that is not zero changes something."""
    gradients = [g for g in trial.graph.gradients.values() if g is not None]
    if gradients and to_float(trial.loss) and all(extremes(g) == (0.0, 0.0) for g in gradients):
        yield (
            "Every gradient of the loss is zero, although the loss is not.\n"
            "  It may be saturated on this batch. Look for a clip, round(), sign(), or a softmax\n"
            "  over one logit."
        )


def registers_its_parameters(trial: Trial) -> Iterator[str]:
    """An optimizer of `module.parameters()` trains everything that the loss has a gradient for."""
    if hidden := trial.graph.unregistered:
        yield (
            f"module.parameters() does not contain {_listed(hidden)}.\n"
            "  No optimizer trains them. Keep networks in attributes, a torch.nn.ModuleList or\n"
            "  a torch.nn.ModuleDict."
        )


def freezes_its_targets(trial: Trial) -> Iterator[str]:
    """A copy of a network is not trained along with the network."""
    gradients = trial.graph.gradients
    trained = {n: array for n, array in trial.graph.arrays.items() if gradients[n] is not None}
    for original, copy in find_copies(trained):
        yield (
            f"{copy} starts as a copy of {original}, and the loss trains both.\n"
            "  If one is a target network, freeze it, or stop the gradient at its output."
        )


def passes_logits(trial: Trial) -> Iterator[str]:
    """A softmax or sigmoid is not applied twice."""
    for function, inner in trial.graph.normalised_twice:
        yield (
            f"{function} is applied to the output of {inner}.\n"
            f"  Pass the logits: it applies {inner} itself."
        )


def aligns_shapes(trial: Trial) -> Iterator[str]:
    """Two values per row are not combined row by row with each other."""
    for shapes, stack in trial.broadcasts:
        yield (
            f"Shapes {shapes}.{_location(trial, stack)}\n"
            "  Squeeze one of them, or use `unsqueeze` if this is intentional."
        )


def reads_fwd_out(trial: Trial) -> Iterator[str]:
    """Only the training loop runs the forward pass."""
    graph = trial.graph
    is_trained = any(graph.gradients.get(name) is not None for name in graph.registered)
    # An output of frozen networks has no graph, so nobody can tell whether it is read.
    can_be_read = graph.outputs or not [*trial.call.fwd_out.keys()]
    if is_trained and can_be_read and all(g is None for g in graph.outputs.values()):
        yield (
            "The loss reaches the parameters, but not through fwd_out.\n"
            "  Read fwd_out: running networks again doubles the work, counts the batch twice\n"
            "  in BatchNorm, and may keep DDP from averaging their gradients."
        )


def trains_no_other_module(trial: Trial) -> Iterator[str]:
    """Gradients end at the batch."""
    if trial.graph.columns:
        yield (
            f"The loss also trains the source of {_listed(trial.graph.columns)}.\n"
            "  Detach it, or ignore this if it is intentional."
        )


def leaves_masked_rows_out(trial: Trial) -> Iterator[str]:
    """Rows where `loss_mask` is False train nothing."""
    mask = _column(trial.call.batch, "loss_mask")
    shape = shape_of(mask)
    names = [
        name
        for name, gradient in trial.graph.outputs.items()
        if shape and gradient is not None and shape_of(gradient)[: len(shape)] == shape
        if not getattr(gradient, "is_nested", False) and gradient[mask == 0].any()
    ]
    if names:
        yield (
            f"The loss has a gradient for masked rows of {_listed(names)}.\n"
            "  Leave rows out where batch['loss_mask'] is False, or detach them if they only\n"
            "  serve as targets."
        )


def keeps_no_graph(trial: Trial) -> Iterator[str]:
    """No step leads back to the step before it."""
    if trial.kept_graphs:
        yield (
            f"The graph of this step is kept in {_listed(trial.kept_graphs)}.\n"
            "  Detach it, or backward() fails in the next step that reads it."
        )


def leaves_buffers_to_the_loop(trial: Trial) -> Iterator[str]:
    """A loss can be computed without training."""
    if trial.changed_buffers:
        yield (
            f"The loss method changed buffers: {_listed(trial.changed_buffers)}.\n"
            "  They also change when the loss is only evaluated. Update them in the training\n"
            "  loop, or evaluate a copy of the module."
        )


VIOLATIONS = (
    implements_the_api,
    accepts_all_arguments,
    reads_mappings,
    raises_no_exception,
    leaves_its_input_alone,
    leaves_training_to_the_loop,
    keeps_the_training_mode,
    restores_settings,
    returns_a_finite_scalar,
    can_be_differentiated,
    has_a_gradient,
    has_finite_gradients,
    logs_scalars,
    masks_every_row,
    rewards_every_row,
)
HINTS = (
    logs_under_its_id,
    trains_all_parameters,
    has_a_nonzero_gradient,
    registers_its_parameters,
    freezes_its_targets,
    passes_logits,
    aligns_shapes,
    reads_fwd_out,
    trains_no_other_module,
    leaves_masked_rows_out,
    keeps_no_graph,
    leaves_buffers_to_the_loop,
)


# Wording


def _listed(names: Iterable[str]) -> str:
    first, rest = [*names][:5], [*names][5:]
    return ", ".join(first) + (f" and {len(rest)} more" if rest else "")


def _advice(trial: Trial) -> str:
    """Returns what to do about an error whose cause is an argument of `check_module`."""
    error = str(trial.error)
    if trial.call.config is None and error.startswith("'NoneType' object"):
        return "\n  If `config` is None here, pass config= to check_module."
    if "required keyword-only argument" in error:
        return "\n  Pass it to check_module, too."
    if isinstance(trial.error, KeyError):
        return _advice_about_ids(trial, next(iter(trial.error.args), None))
    if "an_extra_argument" in error:
        return "\n  Some learners pass more arguments. Accept them, but do not pass them on."
    return ""


def _advice_about_ids(trial: Trial, missing: Any) -> str:
    """Returns what to do if a missing column or output is one level deeper, as with module IDs."""
    for name, data in {"batch": trial.call.batch, "fwd_out": trial.call.fwd_out}.items():
        for key in data.keys():
            if is_mapping(data[key]) and missing in data[key].keys():
                place = f"{missing!r} is in {name}[{key!r}]"
                return f"\n  {place}. Pass columns and outputs without module IDs."
    return ""


def _quoted(error: Exception) -> str:
    first_line = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first_line}"


def _frames(error: BaseException) -> list[FrameSummary]:
    """Returns the frames of an error, after those of its cause, which in JAX are the user's."""
    causes = [error.__cause__.__traceback__] if error.__cause__ else []
    return [frame for tb in (*causes, error.__traceback__) for frame in extract_tb(tb)]


def _location(trial: Trial, frames: Sequence[FrameSummary]) -> str:
    """Returns the last line in the file of the loss method, behind decorators and before torch."""
    files = {frame.filename for frame in frames if frame.name == "compute_self_supervised_loss"}
    code = getattr(trial.call.loss_method, "__code__", None)
    files.add(getattr(code, "co_filename", ""))
    lines = [f"\n  at {f.filename}:{f.lineno}" for f in frames if f.filename in files]
    return lines[-1] if lines else ""


# Shapes


def _column(data: Any, name: str) -> Any:
    return data[name] if is_mapping(data) and name in data.keys() else None


def _shapes(data: Any) -> dict[str, tuple[int, ...]]:
    return {name: shape_of(data[name]) for name in data.keys()} if is_mapping(data) else {}


def _shapes_of_rows(batch: Any) -> list[tuple[int, ...]]:
    """Returns the shapes that one number for each row can have, none if the batch does not show."""
    shapes = _shapes(batch)
    if rewards := shapes.get("rewards"):
        return [rewards]
    name = "obs" if shapes.get("obs") else "new_obs"
    obs = shapes.get(name, ())
    if len(obs) > 2 or (len(obs) == 2 and obs[1] > 1 and is_discrete(batch[name])):
        return [obs[:1], obs[:2]]  # with or without a time dimension
    return [obs[:1]] if obs else []


def _is_column(shape: tuple[int, ...], trial: Trial) -> bool:
    """Returns whether a shape has one axis more than the rows, as with `keepdim=True`."""
    columns = [*_shapes(trial.call.batch).values(), *_shapes(trial.call.fwd_out).values()]
    rows = _shapes_of_rows(trial.call.batch) or [column for column in columns if len(column) == 1]
    return shape[-1:] == (1,) and shape not in rows and shape[:-1] in rows


def _shapes_of_rewards(trial: Trial) -> list[tuple[int, ...]]:
    shapes = _shapes(trial.call.batch)
    mask = shapes.get("loss_mask", ())
    is_known = mask and "rewards" not in shapes and not _is_column(mask, trial)
    return [mask] if is_known else _shapes_of_rows(trial.call.batch)
