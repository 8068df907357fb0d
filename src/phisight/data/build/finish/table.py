"""The table of a data set: which columns it has, how the source's ones are carried over, how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.dataset_folder import FILE_NAME, GROUP, HEIGHT, SHA256, SPLIT, WIDTH
from phisight.core.errors import SourceError, some
from phisight.core.run_folder import atomic_file
from phisight.core.task import Task
from phisight.data.build.plan.columns import Columns
from phisight.data.images.rejection import StoredImage
from phisight.data.sources.arrow import column_of, numbers_of
from phisight.data.sources.base import Source, SourceBatch

NUMBER = "source_row"
"""int64: number of the row in the source, from 1."""
TOKEN = "source_token"  # noqa: S105 - a column
"""str: names the picture asked for, so that a second build knows it (digest of an address; empty for others)."""
ADDED = pa.schema(
    [
        (FILE_NAME, pa.string()),
        (SPLIT, pa.string()),
        (GROUP, pa.string()),
        (SHA256, pa.string()),
        (WIDTH, pa.int32()),
        (HEIGHT, pa.int32()),
        ("image_format", pa.string()),
        ("image_bytes", pa.int64()),
        ("image_phash", pa.string()),
        ("image_colours", pa.string()),
        ("image_notes", pa.string()),
        (NUMBER, pa.int64()),
        (TOKEN, pa.string()),
    ]
)
"""The columns a build adds to the source's own."""


@dataclass(frozen=True)
class KeptRow:
    """A row that made it, with what the build adds."""

    number: int
    token: str
    image: StoredImage
    split: str
    group: str

    def added(self) -> dict[str, Any]:
        """Values of the added columns."""
        image = self.image
        return {
            FILE_NAME: image.file_name, SPLIT: self.split, GROUP: self.group, SHA256: image.sha256,
            WIDTH: image.width, HEIGHT: image.height, "image_format": image.format, "image_bytes": image.size,
            "image_phash": image.phash, "image_colours": image.colours, "image_notes": image.notes,
            NUMBER: self.number, TOKEN: self.token if self.token.startswith("url:") else "",
        }  # fmt: skip


def image_of(row: dict[str, Any]) -> StoredImage:
    """The picture a finished table describes: the inverse of ``KeptRow.added``."""
    return StoredImage(
        file_name=row[FILE_NAME], sha256=row[SHA256], width=row[WIDTH], height=row[HEIGHT], format=row["image_format"],
        size=row["image_bytes"], phash=row["image_phash"], colours=row["image_colours"], notes=row["image_notes"],
    )  # fmt: skip


def is_embedded(kind: pa.DataType) -> bool:
    """Whether an image column holds the bytes themselves."""
    return bool(pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def carried_columns(source: Source, columns: Columns) -> dict[str, pa.Field]:
    """The source's columns that are carried over, by their name in the source.

    Embedded pictures are left out. A name the finished folder needs itself (the added columns; ``image``, under which
    the imagefolder loader gives the picture; ``..._file_name``, which it would open) gets ``source_`` in front.
    Number fields of the task become float64 unless they are numbers.
    """
    carried: dict[str, pa.Field] = {}
    for column in source.schema:
        if column.name == columns.image and is_embedded(column.type):
            continue
        if column.name in columns.task.fields and carried_name(column.name) != column.name:
            raise SourceError(f"column {column.name!r} cannot be a field: the data set uses that name; rename it")
        carried[column.name] = pa.field(carried_name(column.name), _carried_type(column, columns.task))
    names = [field.name for field in carried.values()]
    twice = [name for name in names if names.count(name) > 1 or name in ADDED.names]
    if twice:
        raise SourceError(f"column {some(sorted(set(twice)))} would stand twice in the table; rename it in the source")
    return carried


def carried_name(name: str) -> str:
    """What a source's column is called in the finished table."""
    if name in ADDED.names or name in ("image", "file_names"):
        return f"source_{name}".replace("source_file_name", "source_filename")
    return re.sub(r"_file_name(s?)$", r"_filename\1", name)


def _carried_type(column: pa.Field, task: Task) -> pa.DataType:
    if column.name not in task.fields or task.fields[column.name].kind != "number":
        return column.type
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return column.type if is_number else pa.float64()


class RowsFile:
    """The source's own columns while a build runs: one row for each that could be read, in source order."""

    def __init__(self, path: Path, source: Source, columns: Columns) -> None:
        self._carried = carried_columns(source, columns)
        self._schema = pa.schema([*self._carried.values(), pa.field(NUMBER, pa.int64())])
        self._writer = pq.ParquetWriter(path, self._schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, batch: SourceBatch) -> None:
        """Append the rows of a batch."""
        arrays = [_cast(batch.table[name], field.type) for name, field in self._carried.items()]
        arrays.append(pa.chunked_array([numbers_of(batch.numbers, pa.int64())]))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type.equals(kind):
        return column
    return pa.chunked_array([numbers_of([_float(value) for value in column.to_pylist()], kind)])


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _added_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    columns = [
        column_of(values, field.type) if pa.types.is_string(field.type) else numbers_of(values, field.type)
        for field in ADDED
        for values in [[row[field.name] for row in rows]]
    ]
    return pa.Table.from_arrays(columns, schema=ADDED)


def write_metadata(path: Path, rows_path: Path, kept: Sequence[KeptRow] | Iterator[KeptRow]) -> None:
    """Write the finished table: carried columns of the kept rows (in source order) and the added ones."""
    remaining = iter(kept)
    upcoming = next(remaining, None)
    with pq.ParquetFile(rows_path) as rows, atomic_file(path) as file:
        carried = rows.schema_arrow.remove(rows.schema_arrow.get_field_index(NUMBER))
        schema = pa.schema([ADDED.field(0), *carried, *list(ADDED)[1:]])
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in rows.iter_batches(batch_size=8192):
                positions, added = [], []
                for at, number in enumerate(batch[NUMBER].to_pylist()):
                    if upcoming is not None and upcoming.number == number:
                        positions.append(at)
                        added.append(upcoming.added())
                        upcoming = next(remaining, None)
                table = pa.Table.from_batches([batch])
                if len(positions) < len(table):
                    table = table.take(numbers_of(positions, pa.int64()))
                extra = _added_table(added)
                columns = {name: table[name] for name in carried.names} | {name: extra[name] for name in ADDED.names}
                writer.write_table(pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema))
    assert upcoming is None, f"row {upcoming.number} was kept but never staged"
