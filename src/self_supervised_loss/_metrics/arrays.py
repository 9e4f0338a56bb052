"""What arrays of NumPy, torch, JAX and whatever behaves alike have in common. None is imported."""

from typing import Any

from self_supervised_loss._frameworks import is_dynamo_tracing


def is_array(value: Any) -> bool:
    """Tells arrays from numbers."""
    return _has(value, "detach") or _has(value, "astype")


def shape_of(value: Any) -> tuple[int, ...]:
    """Returns the shape of an array. A number has that of an array of no dimensions."""
    return tuple(value.shape) if _has(value, "shape") else ()


def detached(value: Any) -> Any:
    """Returns a tensor of torch without its graph, and anything else as it is."""
    return value.detach() if _has(value, "detach") else value


def widened(value: Any) -> Any:
    """Returns a copy that has room for sums: integers in 64 bits, half precision in 32.

    JAX has 64 bits only where the program has asked for them, and takes 32 otherwise.
    """
    if not is_array(value):
        return value - 0  # refuses str and list, which * 1 would take
    integer = _is_integer(value)
    if value.dtype.itemsize >= (8 if integer else 4):
        return _copied(value)
    if _has(value, "detach"):
        return value.long() if integer else value.float()
    return value.astype(int if integer else "float32")


def floating(value: Any) -> Any:
    """Returns an array of integers in floating point, and anything else as it is."""
    if not is_array(value) or not _is_integer(value):
        return value
    return _double(value) if _has(value, "detach") else value.astype(float)


def smaller(first: Any, second: Any) -> Any:
    """Returns the smaller of two values, element by element, and NaN where one is NaN."""
    # Of all that compares, only clip() is the same in NumPy, torch and JAX and waits for no device.
    if is_array(first):
        return first.clip(max=second)
    if is_array(second):
        return second.clip(max=first)
    return first if first != first else min(second, first)


def larger(first: Any, second: Any) -> Any:
    """Returns the larger of two values, element by element, and NaN where one is NaN."""
    if is_array(first):
        return first.clip(min=second)
    if is_array(second):
        return second.clip(min=first)
    return first if first != first else max(second, first)


def one(value: Any) -> Any:
    """Returns the number 1, by which values are counted, or a tensor of it in a graph of torch.

    Dynamo takes a number for a constant, and would compile the graph again for each new one.
    """
    return value.new_ones(()).int() if _has(value, "new_ones") and is_dynamo_tracing() else 1


def _has(value: Any, attribute: str) -> bool:
    # Dynamo cannot ask for the attributes of a number whose value it does not know. Up to 2.8 it
    # finds the methods of a tensor in its class alone, while JAX's tracers have theirs themselves.
    if isinstance(value, (int, float)):
        return False
    return hasattr(type(value), attribute) or hasattr(value, attribute)


def _is_integer(array: Any) -> bool:
    if _has(array, "detach"):
        return not (array.is_floating_point() or array.is_complex())
    return array.dtype.kind in "biu"


def _copied(array: Any) -> Any:
    # Inductor takes away a subtraction of zero, and clone(): the copy and what was copied would be
    # one output of the graph, and the loss that a module logs and returns would have no gradient.
    return array.neg().neg() if _has(array, "detach") and is_dynamo_tracing() else array - 0


def _double(tensor: Any) -> Any:
    try:
        return tensor.double()
    except (TypeError, RuntimeError):  # there are devices without it, as Apple's MPS
        return tensor.float()
