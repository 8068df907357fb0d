"""Which column is the image, the key, the group, and what the task is: as given by options, or guessed and reported."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from phisight.core.errors import SettingsError, TaskError, some
from phisight.core.read_files import read_yaml
from phisight.core.task import FieldKind, Task, checked_prompt
from phisight.data.build.plan.profile import ColumnProfile, profile
from phisight.data.sources.base import Source

_IMAGE_NAMES = (
    "image", "image_url", "imageurl", "image_link", "image_path", "image_src", "img", "img_url", "photo", "photo_url",
    "file_name", "filename", "path", "url",
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
    source: Source,
    *,
    image: str | None = None,
    key: str | None = None,
    task: Task | None = None,
    prompt: str | None = None,
) -> Columns:
    """Use the given columns, guess the rest from names and content.

    SettingsError says everything that stops the build at once.
    """
    names = source.schema.names
    guesses: list[str] = []
    problems: list[str] = []
    for given, option in ((image, "--image"), (key, "--key")):
        if given is not None and given not in names:
            problems.append(f"{option} {given!r} is no column; the columns are {some(names, 30)}")
    complete = image is not None and key is not None and task is not None
    profiles = {} if complete else profile(source)
    if image is None:
        image = _guess_image(profiles)
        if image is None:
            problems.append(f"no column looks like an image; name it with --image, one of {some(names, 30)}")
        else:
            guesses.append(f"--image {image}")
    if key is None:
        key = _guess_key(profiles, image)
        guesses.append(f"--key {key}" if key else "no key column: a row's number is its key")
    if task is None:
        try:
            task = guess_task(profiles, image, key)
        except SettingsError as error:
            problems.append(str(error))
        else:
            task = task if prompt is None else task.model_copy(update={"prompt": checked_prompt(prompt)})
            guesses.append("--answer " + repr(task.answer))
            guesses += [f"--field {name}:{task.fields[name].kind}" for name in task.names]
    if problems or image is None or task is None:
        raise SettingsError("; ".join(problems))
    missing = [name for name in task.names if name not in names]
    if missing:
        raise TaskError(f"the task needs column {some(missing)}; the columns are {some(names, 30)}")
    return Columns(image, key, task, guesses)


def _first(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(list(names))}
    return next((lower[name] for name in wanted if name in lower), None)


def _guess_image(profiles: Mapping[str, ColumnProfile]) -> str | None:
    """The column whose values are images; of several, one with a usual name, else the first."""
    clear = [name for name, column in profiles.items() if column.images > 0.5]
    weak = [name for name, column in profiles.items() if column.images > 0.05]
    for candidates in (clear, weak):
        if candidates:
            return _first(candidates, _IMAGE_NAMES) or candidates[0]
    return _first(profiles, _IMAGE_NAMES)


def _guess_key(profiles: Mapping[str, ColumnProfile], image: str | None) -> str | None:
    """A column with a usual name, else the first of unique values without spaces that are no numbers with decimals."""
    others = {name: column for name, column in profiles.items() if name != image}
    named = _first(others, _KEY_NAMES)
    if named is not None:
        return named
    codes = [
        name
        for name, column in others.items()
        if column.unique and column.filled == 1 and column.words == 1 and column.length < 60 and column.numbers < 0.5
    ]
    return next(iter(codes), None)


def guess_task(profiles: Mapping[str, ColumnProfile], image: str | None = None, key: str | None = None) -> Task:
    """A task from names and content: the study's own where its columns are there, else title, category and price."""
    default = Task()
    if all(name in profiles for name in default.names):
        return default
    others = {name: column for name, column in profiles.items() if name not in (image, key)}
    found = {
        "text": _first({**others, **({key: profiles[key]} if key else {})}, _TITLE_NAMES),
        "category": _first(others, _CATEGORY_NAMES),
        "number": _first(others, _PRICE_NAMES),
    }
    if not any(found.values()):
        found = _by_content(others)
    fields = {name: kind for kind, name in found.items() if name is not None}
    if not fields:
        raise SettingsError(
            f"no column looks like a title, a category or a price; name the fields with --field NAME:KIND "
            f"(text, category or number), columns: {some(profiles, 30)}"
        )
    return task_of_fields(fields)


def _by_content(columns: Mapping[str, ColumnProfile]) -> dict[str, str | None]:
    """The first column of each kind: texts of several words, few values that repeat, numbers."""
    full = {name: column for name, column in columns.items() if column.filled > 0.9 and column.images < 0.05}
    numbers = [name for name, column in full.items() if column.numbers > 0.95 and column.distinct > 2]
    texts = {name: column for name, column in full.items() if column.numbers < 0.5}
    categories = [name for name, column in texts.items() if not column.unique and 1 < column.distinct <= 200]
    free = [name for name, column in texts.items() if name not in categories and column.distinct > 2]
    return {
        "text": next(iter(free), None),
        "category": next(iter(categories), None),
        "number": next(iter(numbers), None),
    }


def task_of_fields(fields: dict[str, Any], answer: str | None = None, prompt: str | None = None) -> Task:
    """A task from kinds by column name; without a template one is made: ``Product: {title}, Price: {price}``."""
    if answer is None:
        answer = ", ".join(f"{_caption(name)}: {{{name}}}" for name in fields)
    return Task.model_validate({"fields": fields, "answer": answer, **({"prompt": prompt} if prompt else {})})


def _caption(name: str) -> str:
    """A column's name as the answer shows it; letters and marks of all scripts stay."""
    if name.lower() in _CAPTIONS:
        return _CAPTIONS[name.lower()]
    letters = "".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in name)
    return " ".join(word[:1].upper() + word[1:] for word in letters.split()) or name


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
        values = read_yaml(path)
        return Task.model_validate(values)
    except (OSError, ValueError) as error:
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
