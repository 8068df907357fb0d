"""Every error with cause, repair and the messages that the program raises it with."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import yaml

from docs.hooks.source import classes, docstring, modules

BASE = "PhisightError"
ENTRIES = Path(__file__).with_name("errors.yaml")
HOLE = "..."
"""What stands in a message where the program writes a value."""


def error_tree() -> dict[str, tuple[int, ast.ClassDef]]:
    """Name -> depth and class, for every error of the program; a class comes behind its first base."""
    below: dict[str, list[ast.ClassDef]] = defaultdict(list)
    nodes = {node.name: node for _, node in classes()}
    for node in nodes.values():
        if node.bases and (base := ast.unparse(node.bases[0])) in nodes:
            below[base].append(node)

    def walk(node: ast.ClassDef, depth: int) -> Iterator[tuple[str, tuple[int, ast.ClassDef]]]:
        yield node.name, (depth, node)
        for one in below[node.name]:
            yield from walk(one, depth + 1)

    return dict(walk(nodes[BASE], 0))


def entries() -> dict[str, dict[str, str]]:
    """Cause and repair by name of the class."""
    loaded = yaml.safe_load(ENTRIES.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def messages() -> dict[str, list[str]]:
    """Messages by class, as far as they stand where they are raised; values are left out."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                name = ast.unparse(node.exc.func)
                for argument in node.exc.args:
                    text = _written(argument)
                    if len(text.replace(HOLE, "").split()) >= 3:
                        found[name][text] = None
    return {name: list(texts) for name, texts in found.items()}


def _written(node: ast.expr) -> str:
    """The text of a message; what is computed is a hole."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        parts = (_written(one) if isinstance(one, ast.Constant) else HOLE for one in node.values)
        return " ".join("".join(parts).split())
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _written(node.left) + _written(node.right)
    return HOLE


def errors_page() -> str:
    """The page of all errors, as Markdown."""
    known, said = entries(), messages()
    lines = [
        "# Every error",
        "",
        "An error is one line: what, both numbers, where, the likely cause, the repair. `--debug` before the command "
        "shows the traceback. The exit code is 1, or 128 and the signal's number where a signal stopped the command. "
        "In Python all of them are `phisight.PhisightError`. Search this page for words of the message; `...` stands "
        "for a value.",
        "",
        "```text",
    ]
    tree = error_tree()
    lines += [f"{'    ' * depth}{name}" for name, (depth, _) in tree.items()]
    lines += ["```", ""]
    for name, (_, node) in tree.items():
        entry = known[name]
        lines += [f"## {name}", "", docstring(node).split("\n\n")[0], ""]
        lines += ["| | |", "|---|---|", f"| cause | {entry['cause']} |", f"| repair | {entry['repair']} |", ""]
        texts = sorted(said.get(name, []))
        if texts:
            lines += [f'??? note "{len(texts)} messages"', ""]
            lines += [f"    - {_literal(text)}" for text in texts]
            lines.append("")
    return "\n".join(lines)


def _literal(text: str) -> str:
    """A message as code, whatever backticks it holds."""
    return f"`` {text} ``"
