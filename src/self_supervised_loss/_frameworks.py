"""Recognises the objects of frameworks without importing any framework."""

import sys
from typing import Any


def find_imported(module: str, name: str) -> Any:
    """Returns an object of a module, or None if the program has not imported that module."""
    return getattr(sys.modules.get(module), name, None)


def is_instance_of(value: Any, module: str, name: str) -> bool:
    """Returns whether a value is an instance of a class, False if the class is not imported."""
    return isinstance(value, find_imported(module, name) or ())


def is_torch_tensor(value: Any) -> bool:
    """Returns whether a value is a tensor of torch."""
    # Not by is_instance_of, because the logger asks several times for each value.
    return isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_mapping(value: Any) -> bool:
    """Returns whether a value maps names to items: a dict, a `ModuleDict`, a `TensorDict`, ..."""
    return hasattr(type(value), "keys") and hasattr(type(value), "__getitem__")


def is_dynamo_tracing() -> bool:
    """Returns whether `torch.compile` is tracing the caller. It cannot trace all of Python."""
    is_compiling = find_imported("torch.compiler", "is_dynamo_compiling")
    return is_compiling is not None and bool(is_compiling())
