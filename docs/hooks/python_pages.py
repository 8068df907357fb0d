"""Every public name of the package with its signature and docstring."""

from __future__ import annotations

import ast
import re

from docs.hooks.source import definition, docstring, markdown, modules

SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields")


def public_names() -> dict[str, str]:
    """Public name -> module that defines it, in the order of ``phisight.__all__``; dunders are left out."""
    constants: dict[str, ast.expr] = {}
    for node in modules()["phisight"].body:
        if isinstance(node, ast.Assign):
            constants |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    homes: dict[str, str] = ast.literal_eval(constants["_HOMES"])
    names: list[str] = [one.value for one in constants["__all__"].elts if not one.value.startswith("_")]  # type: ignore[attr-defined]
    return {name: homes.get(name, "phisight.api") for name in names}


def python_page() -> str:
    """The page of all public names, as Markdown."""
    lines = ["# Python", "", *_body(docstring(modules()["phisight"])), ""]
    for name, module in public_names().items():
        node = definition(module, name)
        lines += [f"## `phisight.{name}`", "", "```python", _signature(node), "```", "", *_body(docstring(node)), ""]
        if isinstance(node, ast.ClassDef):
            for member in _members(node):
                lines += [f"### `{name}.{member.name}`", "", "```python", _signature(member), "```", ""]
                lines += [*_body(docstring(member)), ""]
    return "\n".join(lines)


def _members(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Public methods and properties with a docstring."""
    return [
        one
        for one in node.body
        if isinstance(one, ast.FunctionDef) and not one.name.startswith("_") and ast.get_docstring(one)
    ]


def _signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(one) for one in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    decorators = [f"@{ast.unparse(one)}" for one in node.decorator_list]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {node.name}({ast.unparse(node.args)}){returns}"
    if len(line) > 100:
        arguments = re.sub(r", (?=\*|\w+(?::|=|,|$))", ",\n    ", ast.unparse(node.args))
        line = f"def {node.name}(\n    {arguments},\n){returns}"
    return "\n".join([*decorators, line])


def _body(text: str) -> list[str]:
    """A docstring as Markdown: literal blocks as Python, sections as tables."""
    found: list[str] = []
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            block = _indented(lines)
            found += ["", f"**{line.rstrip(':')}**", "", *_entries(block), ""]
        elif line.endswith("::"):
            block = _indented(lines)
            found += [line[:-1], "", "```python", *markdown("\n".join(block)).splitlines(), "```", ""]
        else:
            found.append(line)
    return found


def _indented(lines: list[str]) -> list[str]:
    """Take the indented lines (and empty ones between them) off the front."""
    taken: list[str] = []
    while lines and (not lines[0].strip() or lines[0].startswith(" ")):
        taken.append(lines.pop(0))
    return taken


def _entries(block: list[str]) -> list[str]:
    """``name: text`` entries, further lines deeper, as a list."""
    found: list[str] = []
    for line in markdown("\n".join(block)).splitlines():
        if line.startswith(" ") and found:
            found[-1] += " " + line.strip()
        elif line.strip():
            name, colon, rest = line.partition(": ")
            found.append(f"- `{name}`: {rest}" if colon and " " not in name.strip() else f"- {line}")
    return found
