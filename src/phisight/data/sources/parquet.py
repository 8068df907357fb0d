"""Parquet files, with the types they have; whole numbers that stand for names become the names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.errors import SourceError
from phisight.data.sources.arrow import column_of
from phisight.data.sources.base import MalformedRow, Source, SourceBatch
from phisight.data.sources.bounds import MAX_BYTES, batch_rows, readable_text
from phisight.data.sources.tables import check_names, file_description


class ParquetSource(Source):
    """One Parquet file or several with the same columns, in name order."""

    image_column: str | None = None
    key_column: str | None = None

    def __init__(self, path: Path, files: Sequence[Path] | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self.root: Path | None = path if path.is_dir() else path.parent
        self.files = sorted(files or (path.rglob("*.parquet") if path.is_dir() else [path]))
        self.description: dict[str, Any] = {
            "kind": "parquet",
            "name": path.name,
            "files": [file_description("parquet", file) for file in self.files],
        }
        try:
            schemas = [pq.read_schema(file) for file in self.files]
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{path} is no Parquet: {' '.join(str(error).split())[:200]}") from error
        self._labels = class_names(schemas[0])
        plain = schemas[0].remove_metadata()
        for file, schema in zip(self.files, schemas, strict=True):
            if not schema.remove_metadata().equals(plain):
                raise SourceError(f"{file} and {self.files[0]} have different columns; build them one by one")
        check_names(plain.names, path)
        self.schema = pa.schema([pa.field(f.name, pa.string()) if f.name in self._labels else f for f in plain])
        self.notes = [
            f"{name} holds numbers of {len(names)} names ({', '.join(names[:3])} ...): read as the names"
            for name, names in self._labels.items()
        ]

    def count(self) -> int | None:
        """Rows, from the footers."""
        return sum(int(pq.read_metadata(file).num_rows) for file in self.files)

    def batches(self) -> Iterator[SourceBatch]:
        """All rows, file after file; one of more than ``max_bytes`` is malformed."""
        done = 0
        for path in self.files:
            try:
                with pq.ParquetFile(path) as file:
                    for group in range(file.num_row_groups):
                        rows = batch_rows(file.metadata.row_group(group), path, self._max_bytes)
                        for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
                            yield self._batch(batch, done)
                            done += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                reason = " ".join(str(error).split())[:200]
                raise SourceError(f"{path} cannot be read after row {done}: {reason}") from error

    def _batch(self, batch: pa.RecordBatch, done: int) -> SourceBatch:
        """The rows of a batch that follows ``done`` rows, those too large left out and named."""
        numbers = list(range(done + 1, done + 1 + batch.num_rows))
        sizes = [0] * batch.num_rows
        if batch.nbytes > self._max_bytes:
            sizes = [batch.slice(at, 1).nbytes for at in range(batch.num_rows)]
        malformed = [
            MalformedRow(number, f"the row holds {size} bytes, more than the {self._max_bytes} allowed")
            for number, size in zip(numbers, sizes, strict=True)
            if size > self._max_bytes
        ]
        if malformed:
            left = [at for at, size in enumerate(sizes) if size <= self._max_bytes]
            batch, numbers = batch.take(pa.array(left, pa.int64())), [numbers[at] for at in left]
        table = readable_text(pa.Table.from_batches([batch]).replace_schema_metadata(None))
        return SourceBatch(named(table, self._labels), numbers, malformed)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Columns of whole numbers that stand for names, as ``datasets`` writes it beside the schema (ClassLabel)."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(one) for one in features[name]["names"]]
            for name in schema.names
            if features[name].get("_type") == "ClassLabel" and pa.types.is_integer(schema.field(name).type)
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def named(table: pa.Table, labels: dict[str, list[str]]) -> pa.Table:
    """The table with names for numbers; a number without a name (-1: no label) is null."""
    for name, names in labels.items():
        cells = [
            names[cell] if cell is not None and 0 <= cell < len(names) else None for cell in table[name].to_pylist()
        ]
        at = table.schema.get_field_index(name)
        table = table.set_column(at, pa.field(name, pa.string()), pa.chunked_array([column_of(cells, pa.string())]))
    return table
