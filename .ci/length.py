"""Fails if a file has more than 500 lines, or the body of a function more than 35."""

import ast
import sys
from pathlib import Path

MOST_IN_A_FILE = 500
MOST_IN_A_BODY = 35


def body_length(function):
    """Returns the number of lines in the body of a function, without its docstring."""
    first, *others = function.body
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if is_docstring and not others:
        return 0
    return function.end_lineno - (others[0] if is_docstring else first).lineno + 1


def faults_of(path):
    """Yields what is too long in a file."""
    text = path.read_text()
    if (length := len(text.splitlines())) > MOST_IN_A_FILE:
        yield f"{path} has {length} lines, at most {MOST_IN_A_FILE} are allowed"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, functions) and (length := body_length(node)) > MOST_IN_A_BODY:
            place = f"{path}:{node.lineno}: {node.name}"
            yield f"{place} has {length} lines, at most {MOST_IN_A_BODY} are allowed"


files = [path for folder in ("src", "tests") for path in sorted(Path(folder).rglob("*.py"))]
sys.exit("\n".join(fault for path in files for fault in faults_of(path)) or 0)
