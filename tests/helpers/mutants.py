"""Planted faults by rule: a module with one operator, comparison, constant or branch changed, at every place there is.

Constants of type hints and texts stay; what is changed is named ``function: before -> after``.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_NAMES = {"maximum": "minimum", "minimum": "maximum", "fmax": "fmin", "min": "max", "max": "min", "all": "any",
          "any": "all", "argsort": "argmax", "mean": "sum", "sum": "mean", "median": "max"}  # fmt: skip


def mutants(module: ModuleType) -> Iterator[tuple[str, Callable[[], ModuleType]]]:
    """What was changed, and what loads the changed module; nothing of the original is touched."""
    tree = ast.parse(inspect.getsource(module))
    for at in range(len(list(_places(tree)))):
        changed = copy.deepcopy(tree)
        function, node = list(_places(changed))[at]
        before = ast.unparse(node)
        _change(node)
        after = ast.unparse(node)
        if before != after:
            yield f"{function}: {before} -> {after}", partial(_loaded, module, changed)


def _loaded(module: ModuleType, tree: ast.Module) -> ModuleType:
    found = ModuleType(module.__name__)
    found.__package__, found.__file__ = module.__package__, module.__file__
    exec(compile(ast.fix_missing_locations(tree), f"{module.__name__} (changed)", "exec"), found.__dict__)
    return found


def _places(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every expression that can be changed, with the function that it stands in."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield from _within(statement, statement.name)


_CHANGED = (ast.BinOp, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp, ast.Attribute, ast.Name)


def _within(node: ast.AST, name: str) -> Iterator[tuple[str, ast.expr]]:
    for child in ast.iter_child_nodes(node):
        typing = isinstance(node, ast.AnnAssign) and child is node.annotation
        around = isinstance(node, ast.FunctionDef | ast.ClassDef) and child in node.decorator_list
        around |= isinstance(node, ast.FunctionDef) and child is node.returns
        strict = isinstance(child, ast.keyword) and child.arg == "strict"  # of zip: an assertion, no figure
        if typing or around or strict or isinstance(child, ast.arguments | ast.Raise):
            continue
        if isinstance(child, _CHANGED) or (isinstance(child, ast.Constant) and isinstance(child.value, int | float)):
            yield name, child
        yield from _within(child, f"{name}.{child.name}" if isinstance(child, ast.FunctionDef) else name)


def _change(node: ast.expr) -> None:
    match node:
        case ast.BinOp() | ast.BoolOp():
            node.op = _SWAPPED.get(type(node.op), type(node.op))()  # type: ignore[assignment]
        case ast.Compare():
            node.ops = [_SWAPPED.get(type(op), type(op))() for op in node.ops]  # type: ignore[misc]
        case ast.UnaryOp(op=ast.USub()):
            node.op = ast.UAdd()
        case ast.UnaryOp(op=ast.Not()):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.IfExp():
            node.body, node.orelse = node.orelse, node.body
        case ast.Attribute():
            node.attr = _NAMES.get(node.attr, node.attr)
        case ast.Name():
            node.id = _NAMES.get(node.id, node.id)
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
