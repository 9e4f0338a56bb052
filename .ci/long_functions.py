"""Fails if the body of a function has more than 35 lines, without its docstring."""

import ast
import sys
from pathlib import Path

LIMIT = 35


def body_length(function):
    """Returns the number of lines in the body of a function, without its docstring."""
    first, *others = function.body
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if is_docstring and not others:
        return 0
    return function.end_lineno - (others[0] if is_docstring else first).lineno + 1


too_long = [
    f"{path}:{node.lineno}: {node.name} has {body_length(node)} lines, at most {LIMIT} are allowed"
    for folder in ("src", "tests")
    for path in sorted(Path(folder).rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and body_length(node) > LIMIT
]
sys.exit("\n".join(too_long) or 0)
