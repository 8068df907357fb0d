"""Which lines of a source only a GPU leads to, or ask whether there is one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ASKS = (
    "torch.cuda.is_available", "torch.cuda.device_count", "cuda.is_bf16_supported", "on_gpu(", "OutOfMemoryError",
    ".type == 'cuda'", ".type != 'cuda'", ".is_cuda",
)  # fmt: skip
"""What a branch asks that is for a GPU alone, or the error that its memory raises."""


def branches(path: Path) -> Iterator[tuple[int, str]]:
    """First line of each statement that only a GPU leads to, and what asks for it; lines of expressions that ask."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Module):
            yield from _asking(node, _names_that_ask(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type and "OutOfMemoryError" in ast.unparse(node.type):
            yield node.body[0].lineno, ast.unparse(node.type)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a scope, those of the functions in it left out."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from _own(node)


def _names_that_ask(scope: ast.AST) -> set[str]:
    """Names that are assigned an answer: ``cuda = torch.cuda.is_available()``, also one of several at once."""
    found = set()
    for node in _own(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            pairs: list[tuple[ast.expr, ast.expr]] = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            for name, part in pairs:
                if isinstance(name, ast.Name) and any(ask in ast.unparse(part) for ask in ASKS):
                    found.add(name.id)
    return found


def _asks(expression: ast.AST, names: set[str]) -> bool:
    written = any(ask in ast.unparse(expression) for ask in ASKS)
    return written or any(isinstance(one, ast.Name) and one.id in names for one in ast.walk(expression))


def _asking(scope: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    tests = []
    for node in [scope, *_own(scope)]:
        body = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]
        for at, statement in enumerate(body):
            if isinstance(statement, ast.If) and _asks(statement.test, names):
                tests.append(statement.test)
                asked = ast.unparse(statement.test)
                negative = (
                    any(f"not {ask}" in asked for ask in ("torch.cuda", "on_gpu", *names)) or "!= 'cuda'" in asked
                )
                after = [*statement.orelse, *body[at + 1 :]] if negative else statement.body
                yield from ((one.lineno, asked) for one in after[:1])
    inside = {id(one) for test in tests for one in ast.walk(test)}
    for node in _own(scope):
        asks = isinstance(node, ast.Compare | ast.Call | ast.Attribute) and any(
            ask in ast.unparse(node) for ask in ASKS if ask != "OutOfMemoryError"
        )
        chooses = isinstance(node, ast.IfExp) and _asks(node.test, names)
        if isinstance(node, ast.expr) and (asks or chooses) and id(node) not in inside:
            yield node.lineno, ast.unparse(node)
