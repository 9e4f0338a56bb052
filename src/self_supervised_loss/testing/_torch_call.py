"""Watches a call for settings of torch that it leaves changed, and for shapes that broadcast."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from traceback import StackSummary, extract_stack
from typing import Any

from self_supervised_loss._frameworks import find_imported, is_dynamo_tracing, is_torch_tensor
from self_supervised_loss.testing._values import shape_of


@contextmanager
def settings_restored() -> Iterator[list[str]]:
    """Restores torch's settings on exit. Yields a list to which changed ones are added then."""
    before, changed = _settings(), list[str]()
    try:
        yield changed
    finally:
        after = _settings()
        for name, (value, set_value) in before.items():
            if after[name][0] != value:
                changed.append(name)
                set_value(value)


def _settings() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Returns the settings that a loss method may leave changed, and how to set each of them."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return {}
    return {
        "grad mode": (torch.is_grad_enabled(), torch.set_grad_enabled),
        "default dtype": (torch.get_default_dtype(), torch.set_default_dtype),
    } | {
        f"autocast on {device}": (
            torch.is_autocast_enabled(device),
            partial(torch.set_autocast_enabled, device),
        )
        for device in ("cpu", "cuda")
    }


class Broadcasts:
    """Records operations that broadcast shapes (B, 1) and (B,) to (B, B).

    Nothing is recorded if the code shaped an operand for this, or if another tensor of shape (B, B)
    meets the result, as in pairwise distances.
    """

    def __init__(self) -> None:
        """Starts without a record."""
        # The tensors are kept alive, so their IDs stay unique.
        self._records = dict[int, tuple[Any, str, StackSummary]]()
        self._shaped = dict[int, Any]()

    def found(self) -> list[tuple[str, StackSummary]]:
        """Returns the shapes of each operation, and the stack at the time."""
        return [(shapes, stack) for _, shapes, stack in self._records.values()]

    def recorded(self) -> AbstractContextManager[Any]:
        """Returns a context in which operations are recorded."""
        base: Any = find_imported("torch.overrides", "TorchFunctionMode")
        if base is None:
            return nullcontext()
        record = self._record

        class Mode(base):  # type: ignore[misc]
            def __torch_function__(
                self, function: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                result = function(*args, **(kwargs or {}))
                if not is_dynamo_tracing():
                    record(function.__name__, [*args, *(kwargs or {}).values()], result)
                return result

        return Mode()

    def _record(self, name: str, arguments: list[Any], result: Any) -> None:
        tensors = [value for value in arguments if is_torch_tensor(value)]
        if _adds_axis(name, arguments) or self._keeps_added_axis(tensors, result):
            self._shaped[id(result)] = result
            return
        others = [shape_of(tensor) for tensor in tensors if id(tensor) not in self._records]
        for tensor in tensors:
            if shape_of(tensor) in others:
                self._records.pop(id(tensor), None)
        shapes = [shape_of(tensor) for tensor in tensors if id(tensor) not in self._shaped]
        for size in {shape[0] for shape in shapes if len(shape) == 1}:
            is_square = name in _REDUCING_LOSSES or shape_of(result) == (size, size)
            if size > 1 and (size, 1) in shapes and is_square:
                text = f"{(size, 1)} and {(size,)} broadcast to {(size, size)}"
                self._records[id(result)] = result, text, extract_stack()

    def _keeps_added_axis(self, tensors: list[Any], result: Any) -> bool:
        """Returns whether an operation on one tensor, such as `float`, keeps an added axis."""
        is_shaped = len(tensors) == 1 and id(tensors[0]) in self._shaped
        return is_shaped and shape_of(tensors[0]) == shape_of(result)


_REDUCING_LOSSES = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "gaussian_nll_loss",
    "poisson_nll_loss",
    "kl_div",
)


def _adds_axis(name: str, arguments: list[Any]) -> bool:
    if name != "__getitem__":
        return name in ("unsqueeze", "view", "reshape")
    index = arguments[1] if isinstance(arguments[1], tuple) else arguments[1:]
    return any(part is None for part in index)
