"""The arrays that a loss was computed from, its gradients, and copies among the arrays."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias

from self_supervised_loss.testing._values import content_of, extremes


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


# Copies

_Path: TypeAlias = tuple[str, ...]


def find_copies(arrays: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns pairs of parts that have the same numbers under the same names.

    Parts whose names differ in digits only are layers that a framework cloned. Parts in which every
    array is constant, such as new normalisation layers, are the same without being copies.
    """
    copies = list[tuple[_Path, _Path]]()
    for original, copy in sorted(_equal_parts(arrays), key=lambda pair: len(pair[1])):
        is_known = any(copy[: len(known)] == known for _, known in copies)
        if not is_known and _without_digits(original) != _without_digits(copy):
            copies.append((original, copy))
    return [(".".join(original), ".".join(copy)) for original, copy in copies]


def _equal_parts(arrays: Mapping[str, Any]) -> list[tuple[_Path, _Path]]:
    contents = {name: content_of(array) for name, array in arrays.items()}
    constants = {name for name, array in arrays.items() if len({*extremes(array)}) == 1}
    equal: dict[Any, list[_Path]] = {}
    for path, names in _parts(arrays).items():
        if not constants.issuperset(names.values()):
            part = frozenset((below, contents[name]) for below, name in names.items())
            equal.setdefault(part, []).append(path)
    return [pair for paths in equal.values() for pair in combinations(paths, 2)]


def _parts(names: Iterable[str]) -> dict[_Path, dict[_Path, str]]:
    """Returns the names of the arrays in each part, by their paths below it."""
    parts: dict[_Path, dict[_Path, str]] = {}
    for name in names:
        path = tuple(re.findall(r"\w+", name))
        for length in range(1, len(path)):
            parts.setdefault(path[:length], {})[path[length:]] = name
    return parts


def _without_digits(path: _Path) -> str:
    return re.sub(r"\d", "", ".".join(path))
