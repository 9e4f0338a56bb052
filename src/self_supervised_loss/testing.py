"""The test kit: one call that holds a module against the contract of `SelfSupervisedLossAPI`."""

import inspect
import math
import pickle
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

from self_supervised_loss import MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss._frameworks import imported
from self_supervised_loss._wrappers import unwrap


def check_module(
    module: Any,
    *,
    batch: Mapping[str, Any],
    fwd_out: Mapping[str, Any],
    config: Any = None,
    module_id: str = "module",
) -> Any:
    """Checks that a module works with every learner, and that it learns, in the spirit of Gymnasium's `check_env`.

    The loss method is called once. The random state, and all of a torch module but its buffers, are then put back.
    What may be meant is a `UserWarning`: parameters without a gradient, and metrics that modules would share.

    Args:
        module: The module, wrapped or not.
        batch: A small batch of the module's data, by column.
        fwd_out: The output of the module's forward pass on `batch`, with gradients.
        config: The configuration that the module reads, if any.
        module_id: The ID under which the loss method is called.

    Returns:
        The loss, with its graph.

    Raises:
        AssertionError: If the module breaks the contract. The message lists every violation and what to do.
    """
    __tracebackhide__ = True
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*compute_self_supervised_loss is not called"
        )  # it is a violation here
        inner = unwrap(module)
    loss, loss_method = None, getattr(inner, "compute_self_supervised_loss", None)
    name, violations, hints, cause = type(inner).__name__, list[str](), list[str](), None
    if loss_method is None or not isinstance(inner, SelfSupervisedLossAPI):
        violations.append(
            f"{name} does not implement SelfSupervisedLossAPI. Derive it from that, or register it."
        )
    if loss_method is not None:
        metrics, parameters = MetricsLogger(), _parameters(module, inner)
        logger = _Restricted(log_value=metrics.log_value, log_dict=metrics.log_dict)
        learner = _Restricted(module={module_id: module}, config=config, metrics=logger)
        arguments = dict(
            learner=learner, module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )
        signature = inspect.signature(
            loss_method, follow_wrapped=False
        )  # that of a decorator, which is what is called
        if any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()
        ):
            arguments["an_extra_argument"] = None
        else:
            remedy = "Add it, since some learners pass more, as RLlib's TorchMetaLearner does."
            violations.append(f"there is no **kwargs. {remedy}")
        before = _snapshots(parameters, batch=batch, fwd_out=fwd_out)
        with _put_back(inner, parameters):
            try:
                loss = loss_method(**arguments)
            except Exception as error:
                cause, frames = error, traceback.extract_tb(error.__traceback__)[1:]
                files = {
                    f.filename
                    for f in frames
                    if f is frames[0] or f.name == "compute_self_supervised_loss"
                }
                line = next(
                    (
                        f" ({f.filename}:{f.lineno})"
                        for f in reversed(frames)
                        if f.filename in files
                    ),
                    "",
                )
                raised = (
                    f"compute_self_supervised_loss{line} raised {type(error).__name__}: {error}"
                )
                remedy = ". If that is config, pass config= to check_module."
                violations.append(raised + remedy * (config is None and "NoneType" in str(error)))
            after = _snapshots(
                parameters and _parameters(module, inner), batch=batch, fwd_out=fwd_out
            )
        changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
        trained = [path for path in changed if path.removesuffix(".grad") in parameters]
        violations += [
            f"{path} is not as before. Leave the input as it is."
            for path in changed
            if path not in trained
        ]
        if trained:
            remedy = (
                "Leave backward(), optimizer steps and updates of targets to the training loop."
            )
            violations.append(f"the loss method changed {', '.join(trained)}. {remedy}")
        violations += [] if cause else _check_loss(loss, parameters, hints)
        for key, stat in metrics._stats.items():
            if isinstance(number := _number(stat.values[-1]), str):
                violations.append(f"the value logged as {key!r} {number}. Log a scalar.")
            if not key[0].startswith(str(module_id)):
                hints.append(
                    f"all modules that log {key!r} would share it. Begin with module_id: {(module_id, *key)}."
                )
    if violations:
        title = f"{name} breaks the contract of SelfSupervisedLossAPI:"
        raise AssertionError("\n- ".join([title, *violations])) from cause
    if hints:
        warnings.warn("\n".join(hints), stacklevel=2)
    return loss


class _Restricted(SimpleNamespace):
    """Has the given attributes and, asked for any other, says which."""

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        raise AttributeError(
            f"not every learner has .{name} there. Ask for no more than {', '.join(vars(self))}."
        )


def _check_loss(loss: Any, parameters: dict[str, Any], hints: list[str]) -> Iterator[str]:
    if isinstance(number := _number(loss), str):
        yield f"the loss {number}. Return one scalar, and log what else there is."
    elif not math.isfinite(number):
        yield f"the loss is {number}. Look for a division by zero or a logarithm of zero."
    trainable = {
        name: parameter for name, parameter in parameters.items() if parameter.requires_grad
    }
    if trainable and hasattr(loss, "requires_grad"):
        with suppress(RuntimeError):  # some graphs can be asked only once
            ask, inputs = imported("torch.autograd", "grad"), [*trainable.values()]
            found = loss.requires_grad and ask(
                loss.sum(), inputs, retain_graph=True, allow_unused=True
            )
            unused = [
                name for index, name in enumerate(trainable) if not found or found[index] is None
            ]
            if len(unused) == len(trainable):
                remedy = "Make fwd_out with this module and with gradients, and detach nothing on the way to the loss."
                yield f"the loss has no gradient for any parameter, so that nothing would be learnt. {remedy}"
            elif unused:
                hints.append(
                    f"the loss has no gradient for {', '.join(unused)}. If that is meant, freeze them."
                )
    elif trainable and not isinstance(number, str):
        yield f"the loss is a {type(loss).__name__} without a gradient. Return the tensor, without item() or float()."


def _parameters(wrapped: Any, module: Any) -> dict[str, Any]:
    """Returns torch's parameters by name, or none where they come and go."""
    torch_class = imported("torch.nn", "Module") or ()
    parts = [
        part
        for root in (wrapped, module)
        if isinstance(root, torch_class)
        for part in root.modules()
    ]
    names = {base.__name__ for part in parts for base in type(part).__mro__}
    in_flux = names & {"FSDPModule", "FullyShardedDataParallel", "LazyModuleMixin"}
    return {} if in_flux or not isinstance(module, torch_class) else dict(module.named_parameters())


def _put_back(module: Any, parameters: dict[str, Any]) -> ExitStack:
    """Puts the random state back on exit, and of a torch module the training modes, parameters and gradients."""
    stack = ExitStack()
    for library, state in {
        "random": "state",
        "numpy.random": "_state",
        "torch": "_rng_state",
    }.items():
        if get_state := imported(library, f"get{state}"):
            stack.callback(imported(library, f"set{state}"), get_state())
    for part in module.modules() if parameters else ():
        stack.callback(setattr, part, "training", part.training)
        stack.callback(part._parameters.update, {**part._parameters})
    for parameter in parameters.values():
        stack.callback(parameter.requires_grad_, parameter.requires_grad)
        stack.callback(setattr, parameter, "grad", parameter.grad)
        for tensor in [parameter] if parameter.grad is None else [parameter, parameter.grad]:
            stack.callback(setattr, tensor, "data", tensor.data)
            stack.callback(
                tensor.data.copy_, tensor.detach().clone()
            )  # which no graph takes for a change
    return stack


def _snapshots(
    parameters: dict[str, Any], **inputs: Mapping[str, Any]
) -> dict[str, tuple[Any, ...]]:
    """Returns what the loss method must not change, in a form that can be compared later."""
    # Not what is created at each access, as by a lazily stacked TensorDict.
    values = {
        f"{name}[{key!r}]": v
        for name, data in inputs.items()
        for key, v in data.items()
        if data[key] is v
    }
    values |= parameters | {
        f"{name}.grad": parameter.grad for name, parameter in parameters.items()
    }
    return {path: _snapshot(value) for path, value in values.items()}


def _snapshot(value: Any, depth: int = 9) -> tuple[Any, ...]:
    with suppress(Exception):  # what cannot be looked into is compared by its identity
        if hasattr(value, "shape"):
            array = value.detach() if hasattr(value, "detach") else value
            return pickle.dumps(array), getattr(value, "requires_grad", None)
        if is_dataclass(value):
            value = {field.name: getattr(value, field.name) for field in fields(value)}
        if depth and isinstance(value, (Mapping, list, tuple, set)):
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            return tuple((key, _snapshot(part, depth - 1)) for key, part in parts)
    return (value,)


def _number(value: Any) -> float | str:
    """Returns the number that a scalar holds, or tells what it is instead."""
    try:
        if shape := tuple(getattr(value, "shape", ())):
            return f"has shape {shape}, not ()"
        has_number = not getattr(value, "is_meta", False)
        return (
            math.fsum([value.detach() if hasattr(value, "detach") else value])
            if has_number
            else 0.0
        )
    except Exception:
        return "is None" if value is None else f"is a {type(value).__name__}, not a real number"
