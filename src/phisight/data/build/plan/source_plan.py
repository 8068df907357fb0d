"""A source made ready for a build: columns and task chosen, values read, one image a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from phisight.core.errors import SettingsError, TaskError
from phisight.core.task import Task
from phisight.data.build.plan.columns import Columns, choose_columns, conversation_task
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.plan.own_split import OwnSplit, find_own_split
from phisight.data.build.plan.unused_columns import not_in_answer
from phisight.data.sources import Source
from phisight.data.sources.conversations import ConversationSource
from phisight.data.sources.layouts.open import open_source
from phisight.data.sources.products.image_rows import with_one_image_a_row
from phisight.data.sources.products.shopify import with_products_filled
from phisight.data.values.prepared_source import PreparedSource

Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """What a build works on."""

    source: Source
    """One image a row, fields as the task needs them."""
    columns: Columns
    root: Path | None
    """Folder that local paths begin in."""
    own_split: OwnSplit | None
    question: str | None
    """The question that rows must ask (conversations only)."""
    remarks: Callable[[], list[str]]
    """What was changed or noticed; complete when all rows were read."""


def as_source(source: str | Source, options: BuildOptions) -> Source:
    """The source that a name means, opened as the options say; SourceError with the repair."""
    if not isinstance(source, str):
        return source
    return open_source(source, encoding=options.encoding, sheet=options.sheet, max_bytes=options.limits.max_bytes)


def prepare(source: str | Source, options: BuildOptions) -> Plan:
    """Open and prepare a source; SourceError, SettingsError and TaskError as ``build`` raises them.

    SettingsError says everything that stops the build at once.
    """
    if options.engine not in ("local", "ray"):
        raise SettingsError(f"--engine {options.engine!r} is neither local nor ray")
    opened = as_source(source, options)
    notes = list(opened.notes)
    problems: list[str] = []

    def tried(step: Callable[[], Result]) -> Result | None:
        try:
            return step()
        except SettingsError as error:
            problems.extend(error.problems)
        except TaskError as error:
            problems.append(str(error))
        return None

    task = options.task or tried(lambda: _conversation_task(opened, options.prompt))
    chosen = choose_columns(
        opened,
        image=options.image or opened.image_column,
        key=options.key or opened.key_column,
        task=task,
        prompt=options.prompt,
        further=options.further_images,
    )
    problems += chosen.problems
    own_split = tried(lambda: find_own_split(opened, options.split_column, honored=options.own_split))
    tried(lambda: check_group_column(options.group, opened))
    given = {"--number": options.numbers, "--date": options.dates, "--list": options.lists}
    known = chosen.task
    prepared = tried(lambda: PreparedSource(opened, known, given)) if known is not None else None
    if problems or prepared is None or chosen.columns is None:
        first, *others = problems
        raise SettingsError(f"{len(problems)} things stop the build: {first}" if others else first, *others)
    columns = chosen.columns
    filled = with_products_filled(prepared)
    divided = with_one_image_a_row(filled, columns.image, columns.further)
    used = {options.group.column, own_split.column if own_split else None}
    left = {name: column for name, column in columns.unused.items() if name not in used}
    unused = not_in_answer(left, opened.asked_only)
    columns = replace(
        columns,
        guesses=[*notes, *columns.guesses, *prepared.guesses, *([own_split.sentence] if own_split else [])],
        options=(*columns.options, *prepared.options, *(own_split.options if own_split else ())),
    )

    def remarks() -> list[str]:
        later = [note for note in opened.notes if note not in notes]
        return [*opened.folder_notes, *unused, *prepared.remarks, *filled.notes, *divided.notes, *later]

    return Plan(
        divided,
        columns,
        options.image_root or opened.root,
        own_split,
        columns.task.prompt if isinstance(opened, ConversationSource) else None,
        remarks,
    )


def _conversation_task(source: Source, prompt: str | None) -> Task | None:
    return conversation_task(source.questions(), prompt) if isinstance(source, ConversationSource) else None


def check_group_column(group: GroupRule, source: Source) -> None:
    """SettingsError unless the column of the groups is there."""
    if group.column is not None and group.column not in source.schema.names:
        raise SettingsError(f"--group {group.column!r} is no column; the columns are {', '.join(source.schema.names)}")
