"""Reads the imports of phisight's modules from their source, without importing anything."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[2] / "src" / "phisight"


class Import(NamedTuple):
    """One imported name: dotted, the line, and whether it is imported when the importing module is loaded."""

    module: str
    line: int
    at_load: bool


def sources() -> dict[str, Path]:
    """Dotted name -> file, for every module of phisight; phisight itself is ``phisight.__init__``."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["phisight", *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)] = path
    return found


def imports_of(text: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import in a source text: plain, from, relative, in functions, and import_module("...")."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    tree = ast.parse(text)
    deferred = {id(inner) for node in ast.walk(tree) if _is_deferred(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        for name in _imported(node, package):
            yield Import(name, getattr(node, "lineno", 0), id(node) not in deferred)


def imports_by_module() -> dict[str, list[Import]]:
    """Every module of phisight and what it imports."""
    return {
        module: list(imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"))
        for module, path in sources().items()
    }


def _is_deferred(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _imported(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        stem = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*stem, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "import_module"}:
        return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []
