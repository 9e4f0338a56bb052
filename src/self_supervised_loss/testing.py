"""The test kit: one call that holds a module against the contract of `SelfSupervisedLossAPI`."""

import inspect
import math
import pickle
import warnings
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from self_supervised_loss import MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss.wrappers import unwrap


def check_module(
    module: Any, *, batch: Mapping[str, Any], fwd_out: Mapping[str, Any], config: Any = None, module_id: str = "module"
) -> Any:
    """Checks that a module works with every learner, in the spirit of Gymnasium's `check_env`.

    The loss method is called twice on the same input. A second loss that differs is a `UserWarning`, since it may be
    meant, as with dropout.

    Args:
        module: The module, wrapped or not.
        batch: A small batch of the module's data, by column.
        fwd_out: The output of the module's forward pass on `batch`, with gradients.
        config: The configuration that the module reads, if any.
        module_id: The ID under which the module is asked.

    Returns:
        The loss.

    Raises:
        AssertionError: If the module breaks the contract. The message lists every violation and what to do.
    """
    try:
        inner = unwrap(module)
        loss_method = getattr(inner, "compute_self_supervised_loss", None)
    except Exception as error:
        raise AssertionError(f"no learner can look into {type(module).__name__}: {error!r}") from error
    name = type(inner).__name__
    violations: list[str] = []
    losses: list[Any] = []
    cause: Exception | None = None
    if loss_method is None or not isinstance(inner, SelfSupervisedLossAPI):
        but = "" if loss_method is None else ", it only has a method of that name"
        remedy = "Derive it from SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
        violations.append(f"{name} does not implement SelfSupervisedLossAPI{but}. {remedy}")
    if loss_method is not None:
        metrics = _Metrics(violations)
        logger = _Only(log_value=metrics.log_value, log_dict=metrics.log_dict)
        learner = _Only(module={module_id: module}, config=config, metrics=logger)
        arguments = dict(learner=learner, module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        before = _contents(batch=batch, fwd_out=fwd_out)
        try:
            _check_signature(loss_method, arguments, violations)
            losses.append(loss_method(**arguments))
            losses.append(loss_method(**arguments))
        except Exception as error:
            cause = error
            again = " when called again" if losses else ""
            violations.append(f"compute_self_supervised_loss raised {type(error).__name__}{again}: {error}")
        _check_unchanged(before, _contents(batch=batch, fwd_out=fwd_out), violations)
    for loss in losses:
        _check_loss(loss, inner, violations)
    if violations:
        listed = "\n- ".join(dict.fromkeys(violations))
        unchecked = "" if cause is None else "\nWhat comes after the call that raised was not checked."
        raise AssertionError(f"{name} breaks the contract of SelfSupervisedLossAPI:\n- {listed}{unchecked}") from cause
    first, second = map(_number, losses)
    if first != second:
        hint = "If that is not meant, it depends on something that the first call left behind."
        warnings.warn(f"the loss of {name} was {first} and then {second} on the same input. {hint}", stacklevel=2)
    return losses[0]


class _Only(SimpleNamespace):
    """Has the given attributes and, asked for any other, says which."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"not every learner has .{name} there. Ask for no more than {', '.join(vars(self))}.")


class _Metrics(MetricsLogger):
    """Takes scalars only."""

    def __init__(self, violations: list[str]) -> None:
        super().__init__()
        self._violations = violations

    def _log(self, values: dict[tuple[str, ...], Any], settings: Any) -> None:
        for path, value in list(values.items()):
            if fault := _fault_of_scalar(value):
                self._violations.append(f"the value logged as {path!r} {fault}. Log a scalar.")
                del values[path]
        super()._log(values, settings)


def _check_signature(loss_method: Any, arguments: dict[str, Any], violations: list[str]) -> None:
    """Checks the parameters, and fits the arguments to them, so that the other checks can be made."""
    parameters = inspect.signature(loss_method).parameters
    for name, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            violations.append(f"{name} is positional-only. Put a * before it, since learners pass it by name.")
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        arguments["an_extra_argument"] = None
        return
    violations.append("there is no **kwargs. Add it, since some learners pass more, as RLlib's TorchMetaLearner does.")
    for name in [name for name in arguments if name not in parameters]:
        violations.append(f"there is no parameter {name}. Add it, since every learner passes it.")
        del arguments[name]


def _check_loss(loss: Any, module: Any, violations: list[str]) -> None:
    if fault := _fault_of_scalar(loss):
        violations.append(f"the loss {fault}. Return one scalar, and log what else there is.")
    elif not math.isfinite(_number(loss)):
        violations.append(f"the loss is {_number(loss)}. Look for a division by zero or a logarithm of zero.")
    parameters = module.parameters() if callable(getattr(module, "parameters", None)) else ()
    trainable = any(getattr(parameter, "requires_grad", False) for parameter in parameters)
    if trainable and getattr(loss, "grad_fn", None) is None and (not fault or hasattr(loss, "grad_fn")):
        remedy = "Make fwd_out with gradients, and detach nothing between the parameters and the loss."
        violations.append(f"the loss has no grad_fn, so that nothing would be learnt. {remedy}")


def _check_unchanged(before: dict[str, Any], after: dict[str, Any], violations: list[str]) -> None:
    nothing = (object(), b"")
    for key in {**before, **after}:
        (value, image), (value_after, image_after) = before.get(key, nothing), after.get(key, nothing)
        if value is not value_after:
            violations.append(f"{key} was added, replaced or removed. Leave the input as it is, and make a new dict.")
        elif image != image_after:
            violations.append(f"{key} was changed in place. Leave the input as it is, and make a new tensor.")


def _contents(**inputs: Mapping[str, Any]) -> dict[str, tuple[Any, bytes]]:
    # Not what is made anew at each access, as by a lazily stacked TensorDict.
    return {f"{n}[{k!r}]": (v, _image(v)) for n, d in inputs.items() for k, v in d.items() if d[k] is v}


def _image(value: Any) -> bytes:
    with suppress(Exception):
        if hasattr(value, "shape") or isinstance(value, (dict, list)):
            return pickle.dumps(value)  # whatever the framework, it holds the numbers
    return b""  # only its identity is checked


def _fault_of_scalar(value: Any) -> str | None:
    try:
        if shape := tuple(getattr(value, "shape", ())):
            return f"has shape {shape}, not ()"
        _number(value)
    except Exception:
        return "is None" if value is None else f"is a {type(value).__name__}, not a real number"
    return None


def _number(value: Any) -> float:
    return math.fsum([value.detach() if hasattr(value, "detach") else value])
