"""Several sources as one: a table for each split, each beside its own images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import SourceError, some
from phisight.data.sources.arrow import column_of
from phisight.data.sources.base import MalformedRow, Source, SourceBatch

SPLIT_AGAIN = "folder_split"
"""The column of the part's split where the tables have a column of that name themselves."""


@dataclass(frozen=True)
class Part:
    """One of the sources."""

    source: Source
    split: str | None = None
    """The split it is named after."""
    prefix: str = ""
    """Its folder below the root: its image paths begin there."""


class PartsSource(Source):
    """The rows of all parts, one part after the other, under the columns of all of them.

    A column that a part lacks is empty in its rows; one whose types differ is text. Parts that are named after splits
    add a column with the split.
    """

    def __init__(self, root: Path, parts: Sequence[Part], kind: str) -> None:
        self.root: Path | None = root
        self.parts = list(parts)
        sources = [part.source for part in self.parts]
        self.image_column = next((source.image_column for source in sources if source.image_column), None)
        self.key_column = next((source.key_column for source in sources if source.key_column), None)
        columns = _joined([source.schema for source in sources])
        self._split: str | None = None
        if any(part.split for part in self.parts):
            self._split = SPLIT_AGAIN if SPLIT in columns else SPLIT
            columns[self._split] = pa.string()
        self.schema = pa.schema(columns.items())
        self.description: dict[str, Any] = {
            "kind": f"{kind} ({sources[0].description['kind']})",
            "name": root.name,
            "parts": [{"split": part.split, **part.source.description} for part in self.parts],
        }
        names = ", ".join(
            f"{part.prefix or part.source.description.get('name') or ''} ({part.split or 'no split'})"
            for part in self.parts[:6]
        )
        self.notes = [f"{len(self.parts)} tables are read as one: {names}"] if len(self.parts) > 1 else []
        self.notes += [note for source in sources[:3] for note in source.notes]
        self.asked_only = [name for source in sources for name in source.asked_only]

    def count(self) -> int | None:
        """Rows of all parts."""
        counts = [part.source.count() for part in self.parts]
        return None if None in counts else sum(count for count in counts if count is not None)

    def batches(self) -> Iterator[SourceBatch]:
        """All rows, part after part."""
        done = 0
        for part in self.parts:
            last = 0
            for batch in part.source.batches():
                numbers = [done + number for number in batch.numbers]
                malformed = [
                    MalformedRow(done + bad.number, bad.reason, None if bad.origin is None else done + bad.origin)
                    for bad in batch.malformed
                ]
                origins = None if batch.origins is None else [done + origin for origin in batch.origins]
                last = max([last, *batch.numbers, *(bad.number for bad in batch.malformed)])
                yield SourceBatch(self._fitted(batch.table, part), numbers, malformed, origins)
            done += last

    def _fitted(self, table: pa.Table, part: Part) -> pa.Table:
        columns = []
        names = set(table.schema.names)
        for field in self.schema:
            if field.name == self._split:
                columns.append(column_of([part.split] * table.num_rows, pa.string()))
            elif field.name not in names:
                columns.append(pa.nulls(table.num_rows, field.type))
            elif field.name == self.image_column and part.prefix and pa.types.is_string(field.type):
                cells = _text_cells(table[field.name])
                columns.append(column_of([_below(part.prefix, cell) for cell in cells], pa.string()))
            elif table[field.name].type.equals(field.type):
                columns.append(table[field.name])
            else:
                columns.append(column_of(_text_cells(table[field.name]), pa.string()))
        return pa.Table.from_arrays(columns, schema=self.schema)


def _joined(schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType]:
    found: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            known = found.setdefault(field.name, field.type)
            if not known.equals(field.type):
                if pa.types.is_nested(known) or pa.types.is_nested(field.type):
                    raise SourceError(
                        f"column {field.name!r} is {known} in one table and {field.type} in another; "
                        f"build them one by one (columns: {some(schema.names, 20)})"
                    )
                found[field.name] = pa.string()
    return found


def _text_cells(column: pa.ChunkedArray) -> list[str | None]:
    return [None if cell is None else _text(cell) for cell in column.to_pylist()]


def _text(cell: Any) -> str:
    """JSON of numbers, truth values and lists; days and times as they are written, without quotation marks."""
    if isinstance(cell, bool | int | float | list | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def _below(prefix: str, cell: str | None) -> str | None:
    """A path that begins in the part's folder; addresses and whole paths as they are."""
    text = (cell or "").strip()
    if not text or text.startswith(("/", "\\", "[")) or ":" in text[:8]:
        return cell
    return f"{prefix}/{text}"
