"""Arithmetic on numbers and on arrays of NumPy, torch, JAX and others, importing none of them."""

from collections.abc import Callable
from typing import Any

from self_supervised_loss._frameworks import (
    find_imported,
    is_dynamo_tracing,
    is_instance_of,
    is_torch_tensor,
)


def to_loggable(value: Any) -> Any:
    """Returns a value as an int, a float, or an array without a graph.

    Raises:
        TypeError: If the value is anything else.
    """
    if is_number(value):
        return value
    if is_torch_tensor(value):
        return value.detach()
    if hasattr(value, "astype"):
        return value
    if is_instance_of(value, "numbers", "Number"):  # Decimal and Fraction, which import numbers
        return float(value)
    raise TypeError(f"expected a number, an array or a tensor, got {type(value).__name__}")


def is_number(value: Any) -> bool:
    """Returns whether a loggable value is a number. All others are arrays."""
    return isinstance(value, (int, float))


def dimensions_of(value: Any) -> Any:
    """Returns the dimensions of a value, `()` for a number."""
    return () if is_number(value) else value.shape


def go_together(kept: Any, value: Any) -> bool:
    """Returns whether two values have one shape, belong to one framework and are on one device."""
    if dimensions_of(kept) != dimensions_of(value):
        return False
    if is_number(kept) or is_number(value):
        return True
    if is_torch_tensor(kept) != is_torch_tensor(value):
        return False
    if is_torch_tensor(value):
        return bool(kept.device == value.device)
    return _is_jax_array(kept) == _is_jax_array(value)


def boxed(value: Any) -> Any:
    """Returns a value as it is stored between two steps, a tensor with one more dimension.

    Dynamo treats a tensor without dimensions on the CPU as a number. It would read the number in
    each call, and compile again when it turns into NaN.
    """
    return value.unsqueeze(0) if is_torch_tensor(value) else value


def unboxed(value: Any) -> Any:
    """Returns a value without the dimension that `boxed` adds."""
    return value[0] if is_torch_tensor(value) else value


def copied(value: Any) -> Any:
    """Returns a copy, which in-place changes of the value do not affect."""
    if is_number(value) or _is_jax_array(value):
        return value
    if not is_torch_tensor(value):
        return value.copy()
    if is_dynamo_tracing() and value.is_floating_point():
        # Inductor removes clone(). A loss that is logged and returned would then be one output of
        # the graph, without a gradient.
        return value.neg().neg()
    return value.clone()


def continues(kept: Any, value: Any, convert: Callable[[Any], Any]) -> bool:
    """Returns whether a stored tensor has the shape, device and type of a value once converted."""
    return (
        is_torch_tensor(kept)
        and is_torch_tensor(value)
        and bool(kept.shape[1:] == value.shape)
        and bool(kept.device == value.device)
        and _is_integral(kept) == (convert is not floating and _is_integral(value))
    )


def aligned(kept: Any, value: Any) -> tuple[Any, Any]:
    """Returns two values that are to be combined, both in floating point if one of them is."""
    # Otherwise torch would combine integers and floats in single precision.
    if _is_integral(kept) == _is_integral(value):
        return kept, value
    return floating(kept), floating(value)


def converted_copy(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Returns a converted copy, which in-place changes of the value do not affect."""
    converted = convert(value)
    return copied(value) if converted is value else converted


def widened(value: Any) -> Any:
    """Returns a value in 64 bits, in which sums neither overflow nor stop growing.

    The result has 32 bits in JAX, unless the program has enabled 64, and in floating point on
    devices without double precision, such as Apple's MPS.

    Raises:
        TypeError: If the value is complex, or another array without real numbers.
        OverflowError: If an integer is too large for a float.
    """
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else float(value)
    if is_number(value):
        return value
    if not _is_real(value):
        raise TypeError(f"expected real numbers, got {value.dtype}")
    if is_torch_tensor(value):
        return value.long() if _is_integer(value) else _in_double(value)
    return _as_type(value, _wide_dtype(value))


def floating(value: Any) -> Any:
    """Returns a value in floating point, as wide as `widened` makes it."""
    if is_number(value):
        return float(value)
    if not _is_integer(value):
        return widened(value)
    return _in_double(value) if is_torch_tensor(value) else _as_type(value, float)


def promotes_freely(value: Any) -> bool:
    """Returns whether torch promotes a value in an operation with a 64-bit tensor."""
    return (
        is_torch_tensor(value)
        and value.dtype.is_signed
        and value.dtype.itemsize > 1
        and not value.is_complex()
    )


def smaller(first: Any, second: Any) -> Any:
    """Returns the smaller of two values, element by element, and NaN if one is NaN."""
    # clip() is the only comparison with the same meaning in NumPy, torch and JAX that does not wait
    # for the device.
    if not is_number(first):
        return first.clip(max=second)
    if not is_number(second):
        return second.clip(max=first)
    return first if first != first else min(second, first)


def larger(first: Any, second: Any) -> Any:
    """Returns the larger of two values, element by element, and NaN if one is NaN."""
    if not is_number(first):
        return first.clip(min=second)
    if not is_number(second):
        return second.clip(min=first)
    return first if first != first else max(second, first)


def as_rows(first: Any, second: Any) -> Any:
    """Returns two boxed tensors of torch as the rows of one."""
    return find_imported("torch", "cat")((first, second))


def has_two_rows(value: Any) -> bool:
    """Returns whether a stored value has two rows."""
    return is_torch_tensor(value) and bool(value.shape[0] == 2)


def counts_in_row(value: Any) -> bool:
    """Returns whether a stored value has a second row, or gets one because Dynamo is tracing."""
    return is_torch_tensor(value) and (bool(value.shape[0] == 2) or is_dynamo_tracing())


def operand_for(value: Any, number: float) -> Any:
    """Returns a number in a form that can be combined with a value."""
    # JAX would move a plain number to the device implicitly, which its transfer_guard can forbid.
    return find_imported("jax", "device_put")(number) if _is_jax_array(value) else number


def filled_like(tensor: Any, number: float) -> Any:
    """Returns a tensor of torch with one number in all places, or the largest integer for inf."""
    if not tensor.is_floating_point():
        number = min(max(number, -(2**63)), 2**63 - 1)
    return tensor.new_full(tensor.shape, number)


def is_single(value: Any) -> bool:
    """Returns whether a value is an array of JAX in single precision."""
    return _is_jax_array(value) and bool(value.dtype.name == "float32")


def rounding_error(first: Any, second: Any, total: Any) -> Any:
    """Returns the part of a sum of two arrays that rounding removed from the total."""
    added = total - first
    return (first - (total - added)) + (second - added)


def with_correction(total: Any, correction: Any) -> Any:
    """Adds a correction to an array of JAX, except where it is infinite or NaN."""
    jnp = find_imported("jax", "numpy")
    return jnp.where(jnp.isfinite(total), total + correction, total)


def _is_jax_array(value: Any) -> bool:
    # Dynamo cannot trace isinstance with JAX's class.
    return not is_torch_tensor(value) and is_instance_of(value, "jax", "Array")


def _is_real(array: Any) -> bool:
    if is_torch_tensor(array):
        return not array.is_complex()
    return array.dtype.kind not in "cmMOSU"


def _is_integral(value: Any) -> bool:
    return isinstance(value, int) if is_number(value) else _is_integer(value)


def _is_integer(array: Any) -> bool:
    if is_torch_tensor(array):
        # torch cannot add uint64, and large values would be negative as int64.
        is_uint64 = array.dtype == find_imported("torch", "uint64")
        return not (array.is_floating_point() or array.is_complex() or is_uint64)
    return array.dtype.kind in "biu" or array.dtype.name.startswith(("int", "uint"))


def _wide_dtype(array: Any) -> Any:
    if array.dtype.itemsize >= 8:
        return array.dtype
    if not _is_integer(array):
        return float
    return "uint64" if array.dtype.name == "uint32" else int  # 32 bits do not hold all uint32


def _as_type(array: Any, dtype: Any) -> Any:
    if _is_jax_array(array):
        # The type with 32 bits, unless the program has enabled 64.
        dtype = find_imported("jax.dtypes", "canonicalize_dtype")(dtype)
    return array if array.dtype == dtype else array.astype(dtype)


def _in_double(tensor: Any) -> Any:
    try:
        return tensor.double()
    except (TypeError, RuntimeError):
        return tensor.float()
