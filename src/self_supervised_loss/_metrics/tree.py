"""The records of a logger, one for each key, in dicts that are nested like the result."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from self_supervised_loss._metrics.records import Record
from self_supervised_loss._metrics.settings import DEFAULT

Key: TypeAlias = str | tuple[str, ...]  # as a user writes it
Path: TypeAlias = tuple[str, ...]  # the names that lead from the outermost dict to a key


def to_path(key: Key) -> Path:
    """Returns a key as a path.

    Raises:
        TypeError: If the key is not a string or a tuple of strings.
    """
    if isinstance(key, str):
        return (key,)
    if isinstance(key, tuple) and key and all(isinstance(name, str) for name in key):
        return key
    raise TypeError(f"a key must be a string or a tuple of strings, got {key!r}")


def as_key(path: Path) -> Key:
    """Returns a path as a user writes it."""
    return path[0] if len(path) == 1 else path


def node_at(root: dict[str, Any], path: Path) -> Any:
    """Returns the record or the dict at a path, or None."""
    node: Any = root
    for name in path:
        if not isinstance(node, dict) or name not in node:
            return None
        node = node[name]
    return node


def records_below(node: Any) -> dict[Path, Record]:
    """Returns the records at and below a node that have values, by the path from the node."""
    if isinstance(node, Record):
        return {} if node.is_empty else {(): node}
    children = node.items() if isinstance(node, dict) else ()
    return {
        (name, *path): record
        for name, child in children
        for path, record in records_below(child).items()
    }


def insert(root: dict[str, Any], path: Path, record: Record) -> None:
    """Inserts the record of a new key. It replaces records without values that are in its place.

    Raises:
        ValueError: If a record with values is in its place.
    """
    node = root
    for length, name in enumerate(path[:-1], start=1):
        if not isinstance(node.get(name), dict):
            _require_no_values(node.get(name), path[:length])
            node[name] = {}
        node = node[name]
    _require_no_values(node.get(path[-1]), path)
    node[path[-1]] = record


def cleared(node: dict[str, Any]) -> dict[str, Any]:
    """Clears the records, and drops those that have been empty for a cycle.

    Records whose settings are not the default stay.
    """
    kept: dict[str, Any] = {}
    for name, child in node.items():
        if isinstance(child, dict):
            if inside := cleared(child):
                kept[name] = inside
        elif not child.is_empty or child.settings != DEFAULT:
            child.clear()
            kept[name] = child
    return kept


def nested(results: Mapping[Path, Any]) -> dict[str, Any]:
    """Returns results by path as nested dicts."""
    outermost: dict[str, Any] = {}
    for path, result in results.items():
        node = outermost
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = result
    return outermost


def _require_no_values(node: Any, path: Path) -> None:
    for below in records_below(node):
        existing = as_key((*path, *below))
        raise ValueError(f"a key is either a value or a dict, and {existing!r} exists")
