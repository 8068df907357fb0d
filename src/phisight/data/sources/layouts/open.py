"""Which source a name means: by what is there and what it is called."""

from __future__ import annotations

from pathlib import Path

from phisight.core.errors import SourceError
from phisight.data.images.image_names import IMAGE_SUFFIXES
from phisight.data.sources.base import Source
from phisight.data.sources.bounds import MAX_BYTES
from phisight.data.sources.conversations import TALKS, ConversationSource
from phisight.data.sources.delimited.delimited_source import DelimitedSource
from phisight.data.sources.delimited.encoding import DEFAULT
from phisight.data.sources.excel import SUFFIXES, ExcelSource
from phisight.data.sources.json_array import JsonArraySource, first_value, is_array
from phisight.data.sources.layouts.find_layout import open_directory
from phisight.data.sources.parquet import ParquetSource
from phisight.data.sources.records import RecordSource
from phisight.data.sources.shards import SHARD_NAMES, ShardSource
from phisight.data.sources.tables import JsonLinesSource


def open_source(name: str, *, encoding: str = DEFAULT, sheet: str | None = None, max_bytes: int = MAX_BYTES) -> Source:
    """Open SOURCE: a folder, a table file, shards, or ``hf:owner/name``; SourceError with the repair."""
    if name.startswith("hf:"):
        from phisight.data.sources.hub import HubSource

        return HubSource.parse(name, max_bytes)
    path = Path(name)
    if path.is_dir():
        return open_directory(
            path, lambda file: _open_file(file, encoding, sheet, max_bytes), encoding=encoding, max_bytes=max_bytes
        )
    if not path.is_file():
        hint = f"; did you mean hf:{name}?" if name.count("/") == 1 and not name.startswith((".", "/")) else ""
        raise SourceError(f"there is no file or folder {name}{hint}")
    return _open_file(path, encoding, sheet, max_bytes)


def _open_file(path: Path, encoding: str, sheet: str | None, max_bytes: int) -> Source:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".tab"):
        return DelimitedSource(path, encoding, max_bytes)
    if suffix in (".jsonl", ".ndjson"):
        return _open_lines(path, max_bytes)
    if suffix in (".parquet", ".pq"):
        return ParquetSource(path, max_bytes=max_bytes)
    if suffix == ".json":
        return _open_json(path, max_bytes)
    if suffix in SUFFIXES:
        return ExcelSource(path, sheet, max_bytes)
    if path.name.lower().endswith(SHARD_NAMES):
        return ShardSource([path], max_bytes)
    if suffix == ".txt" and len((table := DelimitedSource(path, encoding, max_bytes)).schema) > 1:
        return table
    raise SourceError(f"{path}: {_recognized(path)}; use .csv, .tsv, .xlsx, .jsonl, .parquet, .json, .tar or a folder")


def _open_json(path: Path, max_bytes: int) -> Source:
    """Conversations or other records, by what the first record holds; an array is read record by record."""
    try:
        streamed = is_array(path)
        first = first_value(path, max_bytes) if streamed else None
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if isinstance(first, dict) and any(isinstance(first.get(name), list) for name in TALKS):
        return ConversationSource(path, list(JsonArraySource(path, max_bytes).values()))
    return JsonArraySource(path, max_bytes) if streamed else RecordSource(path)


def _open_lines(path: Path, max_bytes: int) -> Source:
    """Conversations or other records, by what the first line holds."""
    source = JsonLinesSource(path, max_bytes)
    first = next(source.objects(), None)
    if isinstance(first, dict) and any(isinstance(first.get(name), list) for name in TALKS):
        return ConversationSource(path, list(source.objects()))
    return source


_OTHER_KINDS = {
    ".zip": "a zip file: unpack it and name the folder",
    ".gz": "a gzip file: unpack it first (gunzip)",
    ".bz2": "a bzip2 file: unpack it first",
    ".xz": "an xz file: unpack it first",
    ".zst": "a zstd file: unpack it first",
    ".7z": "an archive: unpack it and name the folder",
    ".rar": "an archive: unpack it and name the folder",
    ".pkl": "a pickle, which may run code: save the table as Parquet",
    ".pickle": "a pickle, which may run code: save the table as Parquet",
    ".db": "a database: export the table as CSV",
    ".sqlite": "a database: export the table as CSV",
    ".sql": "a database dump: export the table as CSV",
    ".xml": "XML: export the table as CSV or JSON",
    ".html": "a web page: save its table as CSV",
    ".pdf": "a PDF: export its table as CSV",
    ".feather": "an Arrow file: save it as Parquet",
    ".arrow": "an Arrow file: save it as Parquet",
    ".orc": "an ORC file: save it as Parquet",
    ".h5": "an HDF5 file: save the table as Parquet",
    ".tfrecord": "TFRecords: convert them to WebDataset shards or Parquet",
    ".txt": "a text file: name it .csv or .tsv where it is one",
}


def _recognized(path: Path) -> str:
    """What a file is that is no source, and what to do."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return "an image: name the folder or the table it belongs to"
    return _OTHER_KINDS.get(path.suffix.lower(), "no known kind of source")
