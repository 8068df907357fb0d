"""Which source a name means: by what is there and what it is called."""

from __future__ import annotations

from pathlib import Path

from phisight.core.errors import SourceError
from phisight.data.sources.base import Source
from phisight.data.sources.folders import open_folder
from phisight.data.sources.tables import DelimitedSource, JsonLinesSource, ParquetSource


def open_source(name: str, *, encoding: str = "utf-8-sig") -> Source:
    """Open SOURCE: a folder, a table file, shards, or ``hf:owner/name``; SourceError with the repair."""
    if name.startswith("hf:"):
        from phisight.data.sources.hub import HubSource

        return HubSource.parse(name)
    path = Path(name)
    if path.is_dir():
        return _open_directory(path, encoding)
    if not path.is_file():
        hint = f"; did you mean hf:{name}?" if name.count("/") == 1 and not name.startswith((".", "/")) else ""
        raise SourceError(f"there is no file or folder {name}{hint}")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".tab"):
        return DelimitedSource(path, encoding)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLinesSource(path)
    if suffix in (".parquet", ".pq"):
        return ParquetSource(path)
    if suffix == ".json":
        from phisight.data.sources.conversations import ConversationSource

        return ConversationSource(path)
    if suffix == ".tar":
        from phisight.data.sources.shards import ShardSource

        return ShardSource([path])
    raise SourceError(f"{name}: no known kind of source; use .csv, .tsv, .jsonl, .parquet, .json, .tar or a folder")


def _open_directory(path: Path, encoding: str) -> Source:
    shards = sorted(path.glob("*.tar"))
    if shards:
        from phisight.data.sources.shards import ShardSource

        return ShardSource(shards)
    if not (path / "metadata.parquet").is_file() and any(path.glob("*.parquet")):
        return ParquetSource(path)
    return open_folder(path, encoding)
