"""What the program has imported of the frameworks. Nothing here, or above it, imports one."""

import sys
from typing import Any


def imported(module: str, name: str) -> Any:
    """Returns what a module defines under a name, or None if the program has not imported it."""
    return getattr(sys.modules.get(module), name, None)


def is_dynamo_tracing() -> bool:
    """Tells whether `torch.compile` is tracing the caller. It cannot trace all of Python."""
    is_compiling = imported("torch.compiler", "is_dynamo_compiling")
    return is_compiling is not None and bool(is_compiling())
