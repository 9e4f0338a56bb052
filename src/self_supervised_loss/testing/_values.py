"""Walks through values of any framework, compares them and reads their numbers."""

import hashlib
import math
import pickle
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

from self_supervised_loss._frameworks import find_imported, is_instance_of, is_torch_tensor

_SEQUENCES = (list, tuple, set, frozenset, deque)


@dataclass(frozen=True)
class Graph:
    """The arrays that a loss was computed from, and its gradients.

    A gradient is None if the loss does not depend on the array.

    Attributes:
        gradients: The gradients by the arrays that training could change.
        arrays: These arrays.
        outputs: The gradients by the arrays of `fwd_out`.
        registered: The parameters that `module.parameters()` yields.
        unregistered: The parameters that are trained without being among them.
        columns: The columns of the batch that the loss trains something through.
        normalised_twice: Functions that apply a softmax or sigmoid to the output of another.
        is_complete: Whether the graph hides no part of the computation.
        error: The exception that the differentiation raised, or None.
    """

    gradients: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    registered: list[str] = field(default_factory=list)
    unregistered: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    normalised_twice: list[tuple[str, str]] = field(default_factory=list)
    is_complete: bool = False
    error: Exception | None = None


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
        if holds_its_items(value):
            yield from ((f"{path}[{key!r}]", part) for key, part in value.items())
    else:
        names = attributes(value).items()
        yield from ((f"{path}.{name}" if path else name, part) for name, part in names)


def holds_its_items(mapping: Any) -> bool:
    """Returns whether items are stored. A stack of TensorDicts stacks them at each access."""
    return all(mapping[key] is mapping[key] for key in mapping.keys())


def attributes(value: Any) -> dict[str, Any]:
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
        name: {
            path: _Part(_content(part), _version(part), id(part))
            for path, part in walk(value, name)
        }
        for name, value in values.items()
    }


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


def _content(value: Any) -> Any:
    """Returns the digest of an array, the size of a container, the identity of anything else."""
    with suppress(Exception):  # arrays without data, such as those on the meta device
        if is_torch_tensor(value):
            return _content_of_tensor(value)
        if isinstance(value, Mapping):
            return tuple(value.keys())
        if isinstance(value, _SEQUENCES):
            return len(value)
        if hasattr(value, "shape"):
            digest = hashlib.blake2b()
            pickle.Pickler(SimpleNamespace(write=digest.update), protocol=5).dump(value)
            return digest.digest()
    return id(value), value  # kept alive, so its ID stays unique


def _content_of_tensor(tensor: Any) -> tuple[Any, ...]:
    # Not pickled, since that writes the whole buffer that a tensor is a slice of.
    flat = _numbers(tensor).cpu().reshape(-1).contiguous().view(find_imported("torch", "uint8"))
    digest = hashlib.blake2b(flat.numpy()).digest()
    identity = id(tensor) if is_instance_of(tensor, "torch.nn", "Parameter") else None
    return digest, tensor.dtype, tensor.shape, tensor.requires_grad, identity


def _version(value: Any) -> int | None:
    """Returns the number of changes in place, which torch does not count in inference mode."""
    is_counted = is_torch_tensor(value) and not value.is_inference()
    return int(value._version) if is_counted else None


_Path: TypeAlias = tuple[str, ...]


def find_copies(arrays: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns pairs of parts with the same numbers under the same names.

    Parts whose names differ in digits only are layers that a framework cloned. Parts in which every
    array is constant, such as new normalisation layers, are the same without being copies.
    """
    parts: dict[_Path, dict[_Path, Any]] = {}
    for name, array in arrays.items():
        path = tuple(re.findall(r"\w+", name))
        for length in range(1, len(path)):
            parts.setdefault(path[:length], {})[path[length:]] = array
    copies = list[tuple[_Path, _Path]]()
    for original, copy in _pairs_of_one_shape(parts):
        is_inside = any(original[: len(a)] == a and copy[: len(b)] == b for a, b in copies)
        if not is_inside and _are_copies(parts[original], parts[copy]):
            copies.append((original, copy))
    return [(".".join(original), ".".join(copy)) for original, copy in copies]


def _pairs_of_one_shape(parts: Mapping[_Path, Mapping[_Path, Any]]) -> list[tuple[_Path, _Path]]:
    """Returns the pairs of parts that can be copies, the outer parts first."""
    alike: dict[Any, list[_Path]] = {}
    for path, part in parts.items():
        alike.setdefault(frozenset((n, shape_of(a)) for n, a in part.items()), []).append(path)
    pairs = [pair for paths in alike.values() for pair in combinations(paths, 2)]
    named_apart = [(a, b) for a, b in pairs if _without_digits(a) != _without_digits(b)]
    return sorted(named_apart, key=lambda pair: len(pair[0]))


def _without_digits(path: _Path) -> str:
    return re.sub(r"\d", "", ".".join(path))


def _are_copies(left: Mapping[_Path, Any], right: Mapping[_Path, Any]) -> bool:
    return any(low < high for low, high in map(extremes, left.values())) and all(
        bool((array == right[name]).all()) for name, array in left.items()
    )


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
    """Returns the number in a real scalar, 0.0 on the meta device."""
    if getattr(value, "is_meta", False):
        return 0.0
    # Not float(), which accepts strings.
    return math.fsum([value.detach() if hasattr(value, "detach") else value])


def extremes(array: Any) -> tuple[float, float]:
    """Returns the smallest and the largest number, (0.0, 0.0) if they cannot be read."""
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
