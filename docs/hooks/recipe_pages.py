"""Every setting of a recipe, and every recipe that comes with the repository."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from docs.hooks.source import cell, definition, docstring, markdown, modules

ROOT = Path(__file__).parents[2]
SETTINGS = "phisight.core.settings"


def settings_of(name: str) -> list[tuple[str, str, str, str]]:
    """Name, type, default and sentence of each setting of a class."""
    body = definition(SETTINGS, name).body
    found = []
    for at, node in enumerate(body):
        if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target).startswith("_") or node.value is None:
            continue
        behind = body[at + 1] if at + 1 < len(body) else None
        sentence = ""
        if isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant):
            sentence = re.sub(r"\bNone\b", "null", markdown(str(behind.value.value)))
        found.append((ast.unparse(node.target), _type(node.annotation), *_default(node.value), sentence))
    return [(name, kind + limits, default, sentence) for name, kind, default, limits, sentence in found]


NAMES = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "Path": "path",
    "list[str]": "list",
}


def _type(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return " or ".join(_type(one) for one in (node.left, node.right))
    text = ast.unparse(node)
    if text.startswith("Literal["):
        return " ".join(f"`{ast.literal_eval(one)}`" for one in _choices(node))
    if text.startswith("list[Literal["):
        assert isinstance(node, ast.Subscript)
        return f"list of {_type(node.slice)}"
    if text in (named := aliases()):
        return _type(named[text])
    return NAMES.get(text, text)


def aliases() -> dict[str, ast.expr]:
    """Names at the top of the module of settings that stand for a type."""
    body = modules()[SETTINGS].body
    return {ast.unparse(one.targets[0]): one.value for one in body if isinstance(one, ast.Assign)}


def _choices(node: ast.expr) -> list[ast.expr]:
    assert isinstance(node, ast.Subscript)
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def _default(value: ast.expr) -> tuple[str, str]:
    """Default as a recipe writes it, and limits; both as Markdown."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "Field"):
        return f"`{_as_yaml(value)}`", ""
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = ", ".join(f"{signs[name]} {ast.unparse(given[name])}" for name in signs if name in given)
    return f"`{_as_yaml(given['default'])}`" if "default" in given else "", f", {limits}" if limits else ""


def _as_yaml(value: ast.expr) -> str:
    if isinstance(value, ast.Call):  # Path("data"), or a group of settings
        return _as_yaml(value.args[0]) if value.args else ""
    return yaml.safe_dump(ast.literal_eval(value), default_flow_style=True, width=1000).strip().removesuffix("\n...")


def groups(prefix: str, name: str) -> Iterator[tuple[str, str]]:
    """Dotted key and class of a group of settings and of those inside it."""
    yield prefix, name
    for key, kind, *_ in settings_of(name):
        if kind.endswith("Settings"):
            yield from groups(f"{prefix}.{key}".lstrip("."), kind)


def settings_page() -> str:
    """The page of all settings, as Markdown."""
    lines = [
        "# Every setting of a recipe",
        "",
        "A recipe is a YAML file of groups of settings; `--set group.name=value` changes one for a run. What is left "
        "out has the default. An unknown key is an error that names the nearest known one. `recipes/forkme.yaml` holds "
        "all of them to copy from.",
        "",
    ]
    for group, name in groups("", "Recipe"):
        title = f"`{group}`" if group else "The recipe itself"
        lines += [f"## {title}", "", docstring(definition(SETTINGS, name)).split("\n")[0], ""]
        lines += ["| setting | type | default | |", "|---|---|---|---|"]
        for key, kind, default, sentence in settings_of(name):
            if not kind.endswith("Settings"):
                full = f"{group}.{key}" if group else key
                lines.append(f"| `{full}` | {cell(kind)} | {cell(default)} | {cell(sentence)} |")
        lines.append("")
    return "\n".join(lines)


def recipes_page() -> str:
    """The page of all recipes, as Markdown: what the first comment says, then the file."""
    lines = ["# The recipes", "", "In `recipes/` of the repository; [every setting](recipe.md) explained.", ""]
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        lines += [f"## {path.stem}", "", "```yaml", text.strip(), "```", ""]
    return "\n".join(lines)
