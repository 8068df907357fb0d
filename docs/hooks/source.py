"""The program's source as the reference reads it: parsed, never imported, so that no page needs torch."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "phisight"


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree, for every module of phisight."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["phisight", *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class at the top of a module, with the module's name."""
    for name, tree in modules().items():
        yield from ((name, node) for node in tree.body if isinstance(node, ast.ClassDef))


def definition(module: str, name: str) -> ast.ClassDef | ast.FunctionDef:
    """A class or function at the top of a module; KeyError where there is none."""
    for node in modules()[module].body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node
    raise KeyError(f"{module} defines no {name}")


def docstring(node: ast.ClassDef | ast.FunctionDef | ast.Module) -> str:
    """The docstring as Markdown: single backticks."""
    return markdown(ast.get_docstring(node) or "")


def markdown(text: str) -> str:
    """A docstring's text with the double backticks of Python as single ones."""
    return inspect.cleandoc(text).replace("``", "`")


def cell(text: str) -> str:
    """Text as one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
