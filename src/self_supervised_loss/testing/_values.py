"""How the test kit walks through values of any framework, compares them and reads them."""

import math
import pickle
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

from self_supervised_loss._frameworks import find_imported, is_torch_tensor


def shape_of(value: Any) -> tuple[int, ...]:
    """Returns the shape of an array, and `()` for all else."""
    return tuple(getattr(value, "shape", ()))


def walk(value: Any, path: str, *, into_objects: bool = False) -> Iterator[tuple[str, Any]]:
    """Yields a value and all that its dicts, lists and tuples hold, each once and with its path.

    If told so, it also looks into the attributes of objects, such as distributions.
    """
    todo, seen = [(path, value)], dict[int, Any]()
    while todo:
        path, value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept, so that nothing else gets its ID
        yield path, value
        todo += reversed([*_inside(value, path, into_objects)])


def _inside(value: Any, path: str, into_objects: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from ((f"{path}[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, Mapping) and _holds_its_items(value):
        yield from ((f"{path}[{key!r}]", part) for key, part in value.items())
    elif into_objects:
        yield from ((f"{path}.{name}", part) for name, part in attributes(value).items())


def _holds_its_items(mapping: Any) -> bool:
    """Tells whether it has what it gives. A stack of TensorDicts stacks anew at each access."""
    return all(mapping[key] is part for key, part in mapping.items())


def attributes(value: Any) -> dict[str, Any]:
    """Returns the attributes of an instance."""
    if isinstance(value, (type, ModuleType)):
        return {}
    slots = [field.name for field in fields(value)] if is_dataclass(value) else list[str]()
    return {name: getattr(value, name, None) for name in slots} | getattr(value, "__dict__", {})


def content(value: Any, depth: int = 9) -> tuple[Any, ...]:
    """Returns what a value holds, in a form that can be compared later."""
    with suppress(Exception):  # what cannot be looked into is compared by its identity
        if is_torch_tensor(value):
            return _content_of_tensor(value)
        if hasattr(value, "detach"):  # a TensorDict
            value = {key: value[key] for key in value.keys()}
        if hasattr(value, "shape"):
            return (pickle.dumps(value),)
        if is_dataclass(value):
            value = attributes(value)
        if depth and isinstance(value, (Mapping, list, tuple, set)):
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            return tuple((key, content(part, depth - 1)) for key, part in parts)
    return (value,)


def _content_of_tensor(tensor: Any) -> tuple[Any, ...]:
    # Not pickled, since that writes all of the buffer that a tensor is a slice of.
    flat = tensor.detach().to_dense().cpu().reshape(-1).contiguous()
    numbers = flat.view(find_imported("torch", "uint8")).numpy().tobytes()
    return numbers, tensor.dtype, tensor.shape, tensor.requires_grad


def version(value: Any) -> int | None:
    """Returns how often a tensor was changed in place, numbers or no numbers."""
    with suppress(AttributeError, RuntimeError):  # torch does not count in inference mode
        return int(value._version)
    return None


def fault_as_scalar(value: Any) -> str:
    """Tells what a value is instead of a real scalar, and nothing if it is one."""
    if shape := shape_of(value):
        return f"has shape {shape}, not ()"
    try:
        to_float(value)
    except Exception:
        return "is None" if value is None else f"is a {type(value).__name__}, not a real number"
    return ""


def to_float(value: Any) -> float:
    """Returns the number that a real scalar holds, which on the meta device is none."""
    if getattr(value, "is_meta", False):
        return 0.0
    # Not float(), which takes a string as well.
    return math.fsum([value.detach() if hasattr(value, "detach") else value])
