"""A source whose fields are read as people wrote them: numbers and dates of any nation, texts without markup.

    cells of the source --clean_text--> text and category fields
                        --ColumnReader-> numbers, dates, truth values and lists, written plainly; currencies in a column
                                         of their own

How a column is written is learned by one pass over it before the first row is staged. What was changed is counted and
said in ``remarks``; a cell that cannot be read stays as it is, so that its row is rejected with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from phisight.core.errors import SettingsError
from phisight.core.task import Task
from phisight.data.sources.arrow import column_of
from phisight.data.sources.base import Source, SourceBatch, WrappedSource
from phisight.data.values.clean_text import REMARKS, clean_text
from phisight.data.values.column_readers import LEARN, OPTION, ColumnReader, Given, is_no_value, learned

UNIT_SUFFIX = "_currency"
"""Added to a number column's name: the column that keeps its currencies."""


class PreparedSource(WrappedSource):
    """A source with its task's fields read; everything else as the source has it."""

    def __init__(self, source: Source, task: Task, given: Mapping[str, Given] | None = None) -> None:
        """``given`` is what options say, by their name (``--number``, ``--date``, ``--list``) and column.

        SettingsError says everything that has to be asked, at once.
        """
        super().__init__(source)
        self._task = task
        self._texts = [
            name
            for name in task.names
            if task.fields[name].kind in ("text", "category") and _is_text(source.schema, name)
        ]
        self._changes: Counter[tuple[str, str]] = Counter()
        self._readers = _learned(source, task, given or {})
        self._currencies = {
            name: f"{name}{UNIT_SUFFIX}"
            for name, reader in self._readers.items()
            if reader.unit is not None and f"{name}{UNIT_SUFFIX}" not in source.schema.names
        }
        added = [pa.field(name, pa.string()) for name in self._currencies.values()]
        self.schema = pa.schema([*source.schema, *added])

    @property
    def guesses(self) -> list[str]:
        """How each column is read, with examples, and the option that would say the same."""
        return [
            "; ".join(filter(None, [reader.sentence, " ".join(reader.option)]))
            for reader in self._readers.values()
            if reader.sentence
        ]

    @property
    def options(self) -> tuple[str, ...]:
        """The options that would say what was guessed."""
        return tuple(part for reader in self._readers.values() if reader.sentence for part in reader.option)

    @property
    def remarks(self) -> list[str]:
        """What was changed in texts, with counts; complete when all rows were read."""
        return [
            f"{count} values of {column!r} held {_NO_VALUE if change == _NONE else REMARKS[change]}"
            for (column, change), count in sorted(self._changes.items())
        ]

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        self._changes.clear()
        for batch in self._source.batches():
            yield SourceBatch(self._prepared(batch.table), batch.numbers, batch.malformed)

    def _prepared(self, table: pa.Table) -> pa.Table:
        columns: dict[str, Any] = {name: table[name] for name in table.schema.names}
        for name in self._texts:
            columns[name] = column_of([self._cleaned(name, cell) for cell in table[name].to_pylist()], pa.string())
        for name, reader in self._readers.items():
            cells = [self._valued(name, cell) for cell in table[name].to_pylist()]
            columns[name] = column_of([reader.plain(cell) if cell else cell for cell in cells], pa.string())
            if name in self._currencies and reader.unit is not None:
                units = [reader.unit(cell) if cell else None for cell in cells]
                columns[self._currencies[name]] = column_of(units, pa.string())
        return pa.Table.from_arrays([columns[field.name] for field in self.schema], schema=self.schema)

    def _cleaned(self, column: str, cell: str | None) -> str | None:
        if cell is None:
            return None
        text, changes = clean_text(cell)
        self._changes.update((column, change) for change in changes)
        return text

    def _valued(self, column: str, cell: str | None) -> str | None:
        """The cell, None where it says that an optional field has no value."""
        if not cell or not is_no_value(cell, self._task.fields[column]):
            return cell
        self._changes[column, _NONE] += 1
        return None


_NONE = "none"
_NO_VALUE = "a sign for no value (n/a, -, null): none in their place"


def _is_text(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _learned(source: Source, task: Task, given: Mapping[str, Given]) -> dict[str, ColumnReader]:
    """The reader of each column of text whose kind learns one."""
    names = [name for name in task.names if task.fields[name].kind in LEARN and _is_text(source.schema, name)]
    _require_known(source, task, given)
    if not names:
        return {}
    cells: dict[str, list[str]] = {name: [] for name in names}
    for batch in source.batches():
        for name in names:
            cells[name] += [cell for cell in batch.table[name].to_pylist() if cell and cell.strip()]
    readers: dict[str, ColumnReader] = {}
    problems: list[str] = []
    for name in names:
        field = task.fields[name]
        try:
            reader = learned(name, field, cells[name], given.get(OPTION.get(field.kind, ""), {}))
        except SettingsError as error:
            problems.append(str(error))
        else:
            readers |= {name: reader} if reader is not None else {}
    if problems:
        raise SettingsError(*problems)
    return readers


def _require_known(source: Source, task: Task, given: Mapping[str, Given]) -> None:
    for option, columns in given.items():
        kinds = [kind for kind, one in OPTION.items() if one == option]
        for name in columns:
            if name not in source.schema.names or (name in task.fields and task.fields[name].kind not in kinds):
                raise SettingsError(
                    f"{option} names {name!r}, which is no column that is read as {' or '.join(kinds)} from text"
                )
