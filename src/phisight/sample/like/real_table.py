"""Tables to learn from: CSV, TSV, Parquet, JSONL or a data set folder, as columns of plain Python values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from phisight.core.dataset_folder import CARD, FILE_NAME, GROUP, HEIGHT, METADATA, SHA256, SPLIT, WIDTH
from phisight.core.errors import SourceError, some

_ADDED = (FILE_NAME, SPLIT, GROUP, SHA256, WIDTH, HEIGHT)
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})

Values = list[Any]


@dataclass(frozen=True)
class RealTable:
    """A real table; ``columns`` are its own, in order, missing cells None."""

    columns: dict[str, Values]
    rows: int
    splits: Values | None = None
    hashes: frozenset[str] = frozenset()

    def part(self, split: str) -> RealTable:
        """The rows of one split; the whole table when it has none."""
        if self.splits is None:
            return self
        keep = [row for row, name in enumerate(self.splits) if name == split]
        columns = {name: [values[row] for row in keep] for name, values in self.columns.items()}
        return RealTable(columns, len(keep), None, self.hashes)


def table_of_columns(columns: dict[str, Values], name: str) -> RealTable:
    """A table read elsewhere: its columns, all of one length, without those that a data set adds under their names.

    SourceError when there is nothing to learn from.
    """
    rows = len(next(iter(columns.values()), []))
    own = {column: _plain(values) for column, values in columns.items() if column not in _ADDED}
    if not rows or not own:
        raise SourceError(f"{name} holds {rows} rows and {len(own)} columns of its own: nothing to learn from")
    return RealTable(own, rows)


def read_table(source: Path | RealTable) -> RealTable:
    """Read a table, or take the one that is read already; SourceError when it is none, empty or cannot be parsed."""
    if isinstance(source, RealTable):
        return source
    path = source / METADATA if (source / CARD).is_file() or (source / METADATA).is_file() else source
    if not path.is_file():
        raise SourceError(f"{source} is no table and no data set folder; give a CSV, Parquet or JSONL file")
    try:
        table = _parsed(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    if table.num_rows == 0 or table.num_columns == 0:
        raise SourceError(f"{path} holds {table.num_rows} rows and {table.num_columns} columns: nothing to learn from")
    columns = {name: _plain(table.column(name).to_pylist()) for name in table.column_names}
    is_folder = path.name == METADATA
    own = {name: values for name, values in columns.items() if name not in _ADDED}  # phisight adds its own
    if not own:
        raise SourceError(f"{path} holds only columns that phisight adds itself ({some(columns)}): nothing to learn")
    hashes = frozenset(str(value) for value in columns.get(SHA256, ()) if value) if is_folder else frozenset()
    return RealTable(own, table.num_rows, columns.get(SPLIT) if is_folder else None, hashes)


def _parsed(path: Path) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return pq.read_table(path)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return pj.read_json(path)
    if suffix in (".csv", ".tsv", ".txt"):
        if not path.read_bytes().strip():
            raise SourceError(f"{path} is empty: nothing to learn from")
        delimiter = "\t" if suffix == ".tsv" else ","
        with pc.open_csv(path, parse_options=pc.ParseOptions(delimiter=delimiter)) as reader:
            names = reader.schema.names
        if len(set(names)) != len(names):
            raise SourceError(f"{path} names a column twice: {some(sorted(names), 20)}")
        # everything as text: codes keep their leading zeros, and text among numbers is seen
        as_text = pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        parse = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        return pc.read_csv(path, parse_options=parse, convert_options=as_text)
    raise SourceError(f"{path} has the unknown ending {suffix!r}; known: .csv, .tsv, .parquet, .jsonl")


def _plain(values: Values) -> Values:
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        return None if text.lower() in _MISSING else text
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, bytes | dict | list):
        return None  # embedded images and nested cells are not imitated
    return value
