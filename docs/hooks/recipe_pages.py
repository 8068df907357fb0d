"""Every setting of a recipe, and every recipe that comes with the repository."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from docs.hooks.source import cell, definition, docstring, markdown
from phisight.core.settings import Recipe, Settings

ROOT = Path(__file__).parents[2]
NAMES = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    NoneType: "null",
    list: "list",
    dict: "keys and values",
}
LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def groups(kind: type[Settings], prefix: str = "") -> Iterator[tuple[str, type[Settings]]]:
    """Dotted key and class of a group of settings and of those inside it."""
    yield prefix, kind
    for name, field in kind.model_fields.items():
        if is_group(field.annotation):
            yield from groups(field.annotation, f"{prefix}.{name}".lstrip("."))  # type: ignore[arg-type]


def is_group(annotation: Any) -> bool:
    """Whether a field is a group of settings."""
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def sentences(kind: type[BaseModel]) -> dict[str, str]:
    """The sentence below each field of a class, as a recipe's reader needs it."""
    body = definition(kind.__module__, kind.__name__).body
    found = {}
    for field, behind in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant):
            found[ast.unparse(field.target)] = re.sub(r"\bNone\b", "null", markdown(str(behind.value.value)))
    return found


def type_text(annotation: Any) -> str:
    """A type as people who write YAML call it."""
    if get_origin(annotation) is Literal:
        return " ".join(f"`{one}`" for one in get_args(annotation))
    if get_origin(annotation) is list and get_origin(get_args(annotation)[0]) is Literal:
        return f"list of {type_text(get_args(annotation)[0])}"
    if get_origin(annotation) in NAMES:
        return NAMES[get_origin(annotation)]
    if parts := get_args(annotation):
        return " or ".join(type_text(one) for one in parts)
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default_text(value: Any) -> str:
    """A default as a recipe writes it."""
    if value is PydanticUndefined:
        return ""
    plain = value.as_posix() if isinstance(value, Path) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000).strip().removesuffix("\n...")
    return f"`{text}`"


def limits_text(metadata: list[Any]) -> str:
    """The limits of a number."""
    found = [f"{sign} {getattr(one, name)}" for one in metadata for name, sign in LIMITS.items() if hasattr(one, name)]
    return "".join(f", {one}" for one in found)


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
    for group, kind in groups(Recipe):
        title = f"`{group}`" if group else "The recipe itself"
        lines += [f"## {title}", "", docstring(definition(kind.__module__, kind.__name__)).split("\n\n")[0], ""]
        lines += ["| setting | type | default | |", "|---|---|---|---|"]
        told = sentences(kind)
        for name, field in kind.model_fields.items():
            if not is_group(field.annotation):
                cells = (
                    f"`{group}.{name}`" if group else f"`{name}`",
                    type_text(field.annotation) + limits_text(field.metadata),
                    default_text(field.default),
                    told.get(name, ""),
                )
                lines.append(f"| {' | '.join(map(cell, cells))} |")
        lines.append("")
    return "\n".join(lines)


def recipes_page() -> str:
    """The page of all recipes, as Markdown: what the first comment says, then the file."""
    lines = ["# The recipes", "", "In `recipes/` of the repository; [every setting](recipe.md) explained.", ""]
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        lines += [f"## {path.stem}", "", "```yaml", text.strip(), "```", ""]
    return "\n".join(lines)
