"""Write the finished table: the carried columns of the accepted rows, and the columns a build adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.run_folder import atomic_file
from phisight.data.build.plan.table_columns import ADDED, NUMBER, AcceptedRow
from phisight.data.sources.arrow import column_of, numbers_of


def _added_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    columns = [
        column_of(values, field.type) if pa.types.is_string(field.type) else numbers_of(values, field.type)
        for field in ADDED
        for values in [[row[field.name] for row in rows]]
    ]
    return pa.Table.from_arrays(columns, schema=ADDED)


def write_metadata(path: Path, rows_path: Path, accepted: Sequence[AcceptedRow] | Iterator[AcceptedRow]) -> None:
    """Write the finished table: carried columns of the accepted rows (in source order) and the added ones."""
    remaining = iter(accepted)
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
    assert upcoming is None, f"row {upcoming.number} was accepted but never staged"
