"""A source whose fields are read as people wrote them: numbers in any national style, texts without markup.

    cells of the source --clean_text--> text and category fields
                        --NumberStyle-> number fields, written plainly; currencies in a column of their own

What a column's numbers look like is learned by one pass over it before the first row is staged. What was changed is
counted and said in ``remarks``; a cell that cannot be read stays as it is, so that its row is rejected with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from phisight.core.errors import SettingsError
from phisight.core.task import Task
from phisight.data.sources.arrow import column_of
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.values.clean_text import REMARKS, clean_text
from phisight.data.values.number_style import NumberGuess, learn_style

UNIT_SUFFIX = "_currency"
"""Added to a number column's name: the column that keeps its currencies."""


class PreparedSource:
    """A source with its task's fields read; everything else as the source has it."""

    def __init__(self, source: Source, task: Task, numbers: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._source = source
        self._texts = [
            name
            for name in task.names
            if task.fields[name].kind in ("text", "category") and _is_text(source.schema, name)
        ]
        self._changes: Counter[tuple[str, str]] = Counter()
        written = [name for name in task.of_kind("number") if _is_text(source.schema, name)]
        self._numbers = _learned(source, written, numbers or {})
        self._currencies = {
            name: f"{name}{UNIT_SUFFIX}"
            for name, guess in self._numbers.items()
            if guess.currencies and f"{name}{UNIT_SUFFIX}" not in source.schema.names
        }
        added = [pa.field(name, pa.string()) for name in self._currencies.values()]
        self.schema = pa.schema([*source.schema, *added])
        self.description = source.description
        self.root = source.root
        self.image_column = source.image_column
        self.key_column = source.key_column
        self.typed = source.typed

    @property
    def guesses(self) -> list[str]:
        """How each column's numbers are read, with examples, and the option that would say the same."""
        return [
            f"{guess.sentence}{f'; {guess.option}' if guess.option else ''}"
            for guess in self._numbers.values()
            if guess.style.decimal or guess.style.thousands or guess.style.units
        ]

    @property
    def remarks(self) -> list[str]:
        """What was changed in texts, with counts; complete when all rows were read."""
        return [
            f"{count} values of {column!r} held {REMARKS[change]}"
            for (column, change), count in sorted(self._changes.items())
        ]

    def count(self) -> int | None:
        """Rows, where that is cheap to know."""
        return self._source.count()

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        self._changes.clear()
        for batch in self._source.batches():
            yield SourceBatch(self._prepared(batch.table), batch.numbers, batch.malformed)

    def _prepared(self, table: pa.Table) -> pa.Table:
        columns: dict[str, Any] = {name: table[name] for name in table.schema.names}
        for name in self._texts:
            columns[name] = column_of([self._cleaned(name, cell) for cell in table[name].to_pylist()], pa.string())
        for name, guess in self._numbers.items():
            read = [(cell, guess.style.plain(cell) if cell else None) for cell in table[name].to_pylist()]
            columns[name] = column_of([value[0] if value else cell for cell, value in read], pa.string())
            if name in self._currencies:
                units = [value[1] or None if value else None for _, value in read]
                columns[self._currencies[name]] = column_of(units, pa.string())
        return pa.Table.from_arrays([columns[field.name] for field in self.schema], schema=self.schema)

    def _cleaned(self, column: str, cell: str | None) -> str | None:
        if cell is None:
            return None
        text, changes = clean_text(cell)
        self._changes.update((column, change) for change in changes)
        return text


def _is_text(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _learned(source: Source, names: list[str], given: Mapping[str, Mapping[str, str]]) -> dict[str, NumberGuess]:
    """The style of each number column; SettingsError with everything that has to be asked, at once."""
    unknown = [name for name in given if name not in source.schema.names]
    if unknown:
        raise SettingsError(f"--number names {unknown[0]!r}, which is no column that is read as a number from text")
    if not names:
        return {}
    cells: dict[str, list[str]] = {name: [] for name in names}
    for batch in source.batches():
        for name in names:
            cells[name] += [cell for cell in batch.table[name].to_pylist() if cell]
    learned, problems = {}, []
    for name in names:
        try:
            learned[name] = learn_style(name, cells[name], given.get(name))
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError("; ".join(problems))
    return learned
