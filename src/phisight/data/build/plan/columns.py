"""Which column is the image, the key, the group, and what the task is: as given by options, or guessed and reported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from phisight.core.errors import SettingsError, TaskError, some
from phisight.core.task import FieldKind, Task

_IMAGE_NAMES = (
    "image", "image_url", "imageurl", "image_link", "image_path", "img", "img_url", "image", "photo", "file_name",
    "filename", "path", "url",
)  # fmt: skip
_KEY_NAMES = ("product_code", "product_id", "sku", "key", "id", "code", "asin", "ean", "item_id")
_TITLE_NAMES = ("title", "name", "product_name", "product_title", "caption", "text", "description")
_CATEGORY_NAMES = ("category3_code", "category", "label", "class", "product_type", "department")
_PRICE_NAMES = ("full_price", "price", "list_price", "amount", "cost")
_CAPTIONS = {"title": "Product", "name": "Product", "product_name": "Product", "product_title": "Product"}


@dataclass(frozen=True)
class Columns:
    """The columns a build uses, and a sentence for each that was guessed."""

    image: str
    key: str | None
    """None: the row's number is its key."""
    task: Task
    guesses: list[str] = field(default_factory=list)


def choose_columns(
    names: Sequence[str],
    *,
    image: str | None = None,
    key: str | None = None,
    task: Task | None = None,
    prompt: str | None = None,
) -> Columns:
    """Use the given columns, guess the rest from the columns' names; SettingsError when that fails."""
    guesses: list[str] = []
    for given, option in ((image, "--image"), (key, "--key")):
        if given is not None and given not in names:
            raise SettingsError(f"{option} {given!r} is no column; the columns are {some(names, 30)}")
    if image is None:
        image = _first(names, _IMAGE_NAMES)
        if image is None:
            raise SettingsError(f"no column looks like an image; name it with --image, one of {some(names, 30)}")
        guesses.append(f"--image {image}")
    if key is None:
        key = _first([name for name in names if name != image], _KEY_NAMES)
        guesses.append(f"--key {key}" if key else "no key column: a row's number is its key")
    if task is None:
        task = guess_task(names, image)
        if prompt is not None:
            task = task.model_copy(update={"prompt": prompt})
        guesses.append("--answer " + repr(task.answer))
        guesses += [f"--field {name}:{task.fields[name].kind}" for name in task.names]
    missing = [name for name in task.names if name not in names]
    if missing:
        raise TaskError(f"the task needs column {some(missing)}; the columns are {some(names, 30)}")
    return Columns(image, key, task, guesses)


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in wanted if name in lower), None)


def guess_task(names: Sequence[str], image: str | None = None) -> Task:
    """A task from column names: the study's own where its columns are there, else title, category and price."""
    default = Task()
    if all(name in names for name in default.names):
        return default
    others = [name for name in names if name != image]
    found = {
        "text": _first(others, _TITLE_NAMES),
        "category": _first(others, _CATEGORY_NAMES),
        "number": _first(others, _PRICE_NAMES),
    }
    fields = {name: kind for kind, name in found.items() if name is not None}
    if not fields:
        raise SettingsError(
            f"no column looks like a title, a category or a price; name the fields with --field NAME:KIND "
            f"(text, category or number), columns: {some(names, 30)}"
        )
    return task_of_fields(fields)


def task_of_fields(fields: dict[str, Any], answer: str | None = None, prompt: str | None = None) -> Task:
    """A task from kinds by column name; without a template one is made: ``Product: {title}, Price: {price}``."""
    if answer is None:
        answer = ", ".join(f"{_caption(name)}: {{{name}}}" for name in fields)
    return Task.model_validate({"fields": fields, "answer": answer, **({"prompt": prompt} if prompt else {})})


def _caption(name: str) -> str:
    return _CAPTIONS.get(name.lower()) or re.sub(r"[_\W]+", " ", name).strip().title() or name


def kinds_by_name(fields: Sequence[str]) -> dict[str, Any]:
    """``title:text`` and ``price:number:2`` (with decimals) as fields by name; SettingsError for anything else."""
    found: dict[str, Any] = {}
    for text in fields:
        name, *rest = text.split(":")
        if (
            not name
            or len(rest) not in (1, 2)
            or rest[0] not in get_args(FieldKind)
            or (rest[1:] and not rest[1].isdigit())
        ):
            raise SettingsError(f"--field {text!r} must be COLUMN:KIND, KIND one of {some(get_args(FieldKind))}")
        found[name] = {"kind": rest[0], **({"decimals": int(rest[1])} if rest[1:] else {})}
    return found


def read_task(path: Path) -> Task:
    """A task from a YAML file with the keys prompt, answer and fields; SettingsError when it cannot be read."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Task.model_validate(values)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise SettingsError(f"{path} holds no task: {' '.join(str(error).split())[:300]}") from error


def conversation_task(questions: Mapping[str, int], prompt: str | None = None) -> Task:
    """The task of conversations: their one question and its answer; SettingsError when there are several."""
    if prompt is None:
        if len(questions) != 1:
            common = sorted(questions, key=lambda text: (-questions[text], text))[:3]
            shown = "; ".join(f"{text[:80]!r} {questions[text]} times" for text in common)
            raise SettingsError(f"{len(questions)} different questions are asked ({shown}); choose one with --prompt")
        (prompt,) = questions
    return Task.model_validate({"prompt": prompt, "answer": "{answer}", "fields": {"answer": "text"}})
