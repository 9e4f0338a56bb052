"""Walks through values of any framework, compares them and reads their numbers."""

import hashlib
import math
import pickle
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

from self_supervised_loss._frameworks import find_imported, is_instance_of, is_torch_tensor

_SEQUENCES = (list, tuple, set, frozenset, deque)


# Walking


def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields a value and everything inside its containers and objects, with paths."""
    todo, entered = [(path, value)], dict[int, Any]()
    while todo:
        path, value = todo.pop()
        yield path, value
        if id(value) not in entered:
            entered[id(value)] = value  # kept alive, so its ID stays unique
            with suppress(Exception):  # objects that do not let themselves be read
                todo += reversed([*_inside(value, path)])


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _SEQUENCES):
        yield from ((f"{path}[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, Mapping):
        if _holds_its_items(value):
            yield from ((f"{path}[{key!r}]", part) for key, part in value.items())
    else:
        names = _attributes(value).items()
        yield from ((f"{path}.{name}" if path else name, part) for name, part in names)


def _holds_its_items(mapping: Any) -> bool:
    """Returns whether items are stored. A stack of TensorDicts stacks them at each access."""
    return all(mapping[key] is mapping[key] for key in mapping.keys())


def _attributes(value: Any) -> dict[str, Any]:
    """Returns the attributes of an instance, those of a torch module under their public names."""
    if isinstance(value, (type, ModuleType)) or is_torch_tensor(value):
        return {}
    slots = [name for base in type(value).__mro__ for name in _slots(base)]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    found |= getattr(value, "__dict__", {})
    if is_instance_of(value, "torch.nn", "Module"):
        for registry in ("_parameters", "_buffers", "_modules"):
            found.pop(registry, None)
            found = dict(getattr(value, registry).items()) | found
    return found


def _slots(base: type) -> tuple[str, ...]:
    slots = vars(base).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


# Comparing

Snapshot: TypeAlias = dict[str, dict[str, "_Part"]]


class _Part(NamedTuple):
    content: Any
    version: int | None
    identity: int


def snapshot(values: Mapping[str, Any]) -> Snapshot:
    """Returns the contents of some values, to be compared with their contents later."""
    return {
        name: {path: _part(part) for path, part in walk(value, name)}
        for name, value in values.items()
    }


def _part(value: Any) -> _Part:
    content = content_of(value)
    if is_instance_of(value, "torch.nn", "Parameter"):  # an optimizer holds this object
        content = content, id(value)
    is_counted = is_torch_tensor(value) and not value.is_inference()
    return _Part(content, value._version if is_counted else None, id(value))


def changes(before: Snapshot, after: Snapshot) -> list[str]:
    """Returns the names of the values that differ. New values and attributes do not count."""
    # Slices of one buffer count their changes together, so the contents are compared first.
    return _differing(before, after, "content") or _differing(before, after, "version")


def _differing(before: Snapshot, after: Snapshot, aspect: str) -> list[str]:
    return [
        name
        for name in before
        if name not in after
        or any(
            _differs(path.removeprefix(name), part, after[name].get(path), aspect)
            for path, part in before[name].items()
        )
    ]


def _differs(path: str, before: _Part, after: _Part | None, aspect: str) -> bool:
    is_same_object = after is not None and before.identity == after.identity
    if "._" in path and not is_same_object:  # objects replace private attributes to cache results
        return False
    return after is None or getattr(before, aspect) != getattr(after, aspect)


def content_of(value: Any) -> Any:
    """Returns the digest of an array, the size of a container, the identity of anything else."""
    with suppress(Exception):  # arrays without data, such as those on the meta device
        if is_torch_tensor(value):
            # Not pickled, since that writes the whole buffer that a tensor is a slice of.
            flat = _numbers(value).cpu().reshape(-1).contiguous()
            digest = hashlib.blake2b(flat.view(find_imported("torch", "uint8")).numpy()).digest()
            return digest, value.dtype, value.shape, value.requires_grad
        if isinstance(value, Mapping):
            return tuple(value.keys())
        if isinstance(value, _SEQUENCES):
            return len(value)
        if hasattr(value, "shape"):
            hashed = hashlib.blake2b()
            pickle.Pickler(SimpleNamespace(write=hashed.update), protocol=5).dump(value)
            return hashed.digest()
    return id(value), value  # kept alive, so its ID stays unique


# Reading


def shape_of(value: Any) -> tuple[int, ...]:
    """Returns the shape of an array, and `()` for anything else."""
    with suppress(RuntimeError):  # a lazy parameter has no shape yet
        return tuple(getattr(value, "shape", ()))
    return ()


def scalar_fault(value: Any) -> str:
    """Returns the difference between a value and a real scalar, empty if there is none."""
    if shape := shape_of(value):
        return f"has shape {shape}, expected ()"
    try:
        to_float(value)
    except Exception:
        return "is None" if value is None else f"is a {type(value).__name__}, not a real number"
    return ""


def is_discrete(value: Any) -> bool:
    """Returns whether a value is an array of integers or of booleans."""
    return re.search("int|bool", str(getattr(value, "dtype", ""))) is not None


def to_float(value: Any) -> float:
    """Returns the number in a real scalar."""
    # Not float(), which accepts strings.
    return math.fsum([value.detach() if is_torch_tensor(value) else value])


def extremes(array: Any) -> tuple[float, float]:
    """Returns the smallest and the largest number, (0.0, 0.0) if there is no array to read."""
    with suppress(Exception):  # arrays without numbers
        numbers = _numbers(array) if is_torch_tensor(array) else array
        return to_float(numbers.min()), to_float(numbers.max())
    return 0.0, 0.0


def is_finite(array: Any) -> bool:
    """Returns whether an array has neither NaN nor infinity."""
    return all(map(math.isfinite, extremes(array)))


def _numbers(tensor: Any) -> Any:
    """Returns the numbers of a tensor of any layout, without a copy if possible."""
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.coalesce()
    if tensor.is_nested or tensor.layout != find_imported("torch", "strided"):
        tensor = tensor.values()
    return find_imported("torch", "view_as_real")(tensor) if tensor.is_complex() else tensor
