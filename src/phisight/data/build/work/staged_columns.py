"""The source's own columns while a build runs: a Parquet file in the workspace."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.data.build.plan.columns import Columns
from phisight.data.build.plan.table_columns import NUMBER, carried_columns
from phisight.data.images.image_names import is_written_image
from phisight.data.sources.arrow import column_of, numbers_of
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.values.typed_columns import typed_column


class StagedColumns:
    """The source's own columns while a build runs: one row for each that could be read, in source order."""

    def __init__(self, path: Path, source: Source, columns: Columns) -> None:
        self._carried = carried_columns(source, columns)
        self._fields = columns.task.fields
        self._image = columns.image
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
        arrays = [
            self._cast(
                name, _without_written(batch.table[name]) if name == self._image else batch.table[name], field.type
            )
            for name, field in self._carried.items()
        ]
        arrays.append(pa.chunked_array([numbers_of(batch.numbers, pa.int64())]))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _cast(self, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
        if column.type.equals(kind):
            return column
        return pa.chunked_array([typed_column(column.to_pylist(), self._fields[name])])


def _without_written(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without images that are written as text: they are stored as files."""
    if not pa.types.is_string(column.type):
        return column
    cells = column.to_pylist()
    if not any(cell and is_written_image(cell) for cell in cells):
        return column
    return pa.chunked_array(
        [column_of(["" if cell and is_written_image(cell) else cell for cell in cells], pa.string())]
    )
