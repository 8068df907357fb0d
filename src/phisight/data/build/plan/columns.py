"""Which column is the image, the key, the group, and what the task is: as given by options, or guessed and reported."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phisight.core.errors import PhisightError, SettingsError, some
from phisight.core.kinds import KINDS
from phisight.core.task import Task, checked_prompt
from phisight.core.task_field import field_of
from phisight.data.build.plan.image_columns import first_named, further_images, guess_image, other_images
from phisight.data.build.plan.profile import ColumnProfile, profile
from phisight.data.build.plan.unused_columns import FITS, FULL, IMAGES, MANY, OWN, near_miss
from phisight.data.sources.base import Source

_KEY_NAMES = (
    "product_code",
    "product_id",
    "sku",
    "key",
    "id",
    "code",
    "asin",
    "ean",
    "item_id",
    "handle",
    "url_handle",
)
_TITLE_NAMES = ("title", "name", "product_name", "product_title", "caption", "text", "description")
_CATEGORY_NAMES = (
    "category3_code", "category", "label", "class", "cls", "product_type", "department", "categories", "type",
)  # fmt: skip
_PRICE_NAMES = ("full_price", "price", "list_price", "amount", "cost", "variant_price", "regular_price")
_FILLED = 0.8
"""A guessed field whose column holds something in fewer of the rows is optional."""
_CAPTIONS = {"title": "Product", "name": "Product", "product_name": "Product", "product_title": "Product"}


@dataclass(frozen=True)
class Columns:
    """The columns a build uses, and a sentence for each that was guessed."""

    image: str
    """The column with a product's first image, or all of them."""
    key: str | None
    """None: the row's number is its key."""
    task: Task
    guesses: list[str] = field(default_factory=list)
    options: tuple[str, ...] = ()
    """The options that would say what was guessed."""
    further: tuple[str, ...] = ()
    """Columns with further images of the product."""
    unused: Mapping[str, ColumnProfile] = field(default_factory=dict)
    """Columns that a guessed task leaves out, and no guess names."""


@dataclass(frozen=True)
class ChosenColumns:
    """What was found out about the columns, complete or not."""

    columns: Columns | None
    """None where something is missing; then there are problems."""
    task: Task | None
    """The task, where it is known all the same."""
    problems: list[str]
    """A sentence for everything that stops the build."""


def choose_columns(
    source: Source,
    *,
    image: str | None = None,
    key: str | None = None,
    task: Task | None = None,
    prompt: str | None = None,
    further: Sequence[str] = (),
) -> ChosenColumns:
    """Use the given columns, guess the rest from names and content."""
    names = source.schema.names
    guesses: list[str] = []
    problems: list[str] = []
    for given, option in ((image, "--image"), *((one, "--image") for one in further), (key, "--key")):
        if given is not None and given not in names:
            problems.append(f"{option} {given!r} is no column; the columns are {some(names, 30)}")
    options: list[str] = []
    complete = image is not None and key is not None and task is not None
    unused: dict[str, ColumnProfile] = {}
    others: list[str] = []
    profiles = {} if complete else profile(source)
    if image is None:
        image = guess_image(profiles)
        if image is None:
            problems.append(f"no column looks like an image; name it with --image, one of {some(names, 30)}")
        else:
            further = further_images(profiles, image)
            guesses += [f"--image {name}" for name in (image, *further)]
            options += [part for name in (image, *further) for part in ("--image", name)]
            others = other_images(profiles, [image, *further])
            guesses += [f"no image of {some(others)} is used; name them with --image"] if others else []
    if key is None:
        optional = [name for name, field in task.fields.items() if field.optional] if task is not None else []
        key = _guess_key({name: one for name, one in profiles.items() if name not in optional}, image)
        guesses.append(f"--key {key}" if key else "no key column: a row's number is its key")
        options += ["--key", key] if key else []
    if task is None:
        try:
            fields = {name: column for name, column in profiles.items() if name not in source.asked_only}
            task = guess_task(fields, image, key if key in fields else None)
        except SettingsError as error:
            problems.append(str(error))
        else:
            task = task if prompt is None else task.model_copy(update={"prompt": checked_prompt(prompt)})
            guesses.append("--answer " + repr(task.answer))
            guesses += [f"--field {name}:{task.fields[name].short}" for name in task.names]
            options += ["--answer", task.answer]
            options += [part for name in task.names for part in ("--field", f"{name}:{task.fields[name].short}")]
            named = {image, key, *further, *others, *task.names}
            unused = {name: column for name, column in profiles.items() if name not in named}
    missing = [name for name in task.names if name not in names] if task is not None else []
    if missing:
        problems.append(f"the task needs column {some(missing)}; the columns are {some(names, 30)}")
    if problems or image is None or task is None:
        return ChosenColumns(None, None if missing else task, problems)
    return ChosenColumns(Columns(image, key, task, guesses, tuple(options), tuple(further), unused), task, [])


def _guess_key(profiles: Mapping[str, ColumnProfile], image: str | None) -> str | None:
    """A column with a usual name, else the first of unique values without spaces that are no numbers, days or lists."""
    others = {name: column for name, column in profiles.items() if name != image}
    named = first_named(others, _KEY_NAMES)
    if named is not None:
        return named
    if image is not None and first_named([image], _KEY_NAMES) and image in profiles:
        return image  # the name of a product's file, without its ending
    codes = [
        name
        for name, column in others.items()
        if column.unique and column.filled == 1 and column.words == 1 and column.length < 60 and column.numbers < 0.5
        if max((column.shares.get(kind, 0.0) for kind in ("date", "list", "boolean")), default=0.0) < 0.5
    ]
    return next(iter(codes), None)


def guess_task(profiles: Mapping[str, ColumnProfile], image: str | None = None, key: str | None = None) -> Task:
    """A task from names and content: the study's own where its columns are there, else title, category and price.

    A column that is empty in many rows becomes an optional field.
    """
    default = Task()
    if all(name in profiles for name in default.names):
        kinds = {name: default.fields[name].kind for name in default.names}
        return task_of_fields(_with_optional(kinds, profiles), default.answer)
    others = {name: column for name, column in profiles.items() if name not in (image, key) and column.filled}
    found = {
        "text": first_named({**others, **({key: profiles[key]} if key else {})}, _TITLE_NAMES),
        "category": first_named(others, _CATEGORY_NAMES),
        "number": first_named(others, _PRICE_NAMES),
    }
    if not any(found.values()):
        found = _by_content(others)
    fields = {name: kind for kind, name in found.items() if name is not None}
    if not fields:
        near = [f"{name} ({reason})" for name, column in others.items() if (reason := near_miss(column))]
        raise SettingsError(
            f"no column looks like a title, a category or a price; name the fields with --field NAME:KIND "
            f"({some(KINDS, 20)}), columns: {some(profiles, 30)}{f'; nearly: {some(near)}' if near else ''}"
        )
    return task_of_fields(_with_optional(fields, profiles))


def _with_optional(kinds: Mapping[str, str], profiles: Mapping[str, ColumnProfile]) -> dict[str, Any]:
    return {name: f"{kind}?" if profiles[name].filled < _FILLED else kind for name, kind in kinds.items()}


def _by_content(columns: Mapping[str, ColumnProfile]) -> dict[str, str | None]:
    """The first column of each kind: texts of several words, few values that repeat, numbers, days, truth values."""
    full = {name: column for name, column in columns.items() if column.filled > FULL and column.images < IMAGES}
    full = {name: column for name, column in full.items() if name not in OWN and not name.startswith("image_")}
    special: dict[str, str | None] = {}
    for kind in ("list", "boolean", "date", "integer"):
        few = 2 if kind == "integer" else 1
        fitting = [name for name, one in full.items() if one.shares.get(kind, 0.0) > FITS and one.distinct > few]
        special[kind] = next(iter(fitting), None)
        full = {name: one for name, one in full.items() if name not in fitting or kind == "integer"}
    numbers = [name for name, one in full.items() if one.numbers > FITS and one.distinct > 2]
    numbers = [name for name in numbers if full[name].shares.get("integer", 0.0) <= FITS]
    texts = {name: one for name, one in full.items() if one.numbers < 0.5 and one.shares.get("date", 0.0) < 0.5}
    categories = [name for name, column in texts.items() if not column.unique and 1 < column.distinct <= MANY]
    free = [name for name, column in texts.items() if name not in categories and column.distinct > 2]
    return {
        "text": next(iter(free), None),
        "category": next(iter(categories), None),
        "number": next(iter(numbers), None),
        **special,
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
    """``title:text``, ``price:number:2`` (with decimals), ``tip:number?`` and ``tags:list:category`` as fields by name.

    SettingsError for anything else.
    """
    found: dict[str, Any] = {}
    for text in fields:
        name, _, kind = text.partition(":")
        if not name or not kind:
            raise SettingsError(
                f"--field {text!r} must be COLUMN:KIND, KIND one of {some(KINDS, 20)}, or KIND? (optional)"
            )
        try:
            found[name] = field_of(kind)
        except PhisightError as error:
            raise SettingsError(f"--field {text!r}: {error}") from error
    return found


def conversation_task(questions: Mapping[str, int], prompt: str | None = None) -> Task:
    """The task of conversations: their one question and its answer; SettingsError when there are several."""
    if prompt is None:
        if len(questions) != 1:
            common = sorted(questions, key=lambda text: (-questions[text], text))[:3]
            shown = "; ".join(f"{text[:80]!r} {questions[text]} times" for text in common)
            raise SettingsError(f"{len(questions)} different questions are asked ({shown}); choose one with --prompt")
        (prompt,) = questions
    return Task.model_validate({"prompt": prompt, "answer": "{answer}", "fields": {"answer": "text"}})
