"""Which layout a folder has. The first that fits is taken:

*.tar                                   WebDataset shards, also train-*.tar, val-*.tar
metadata.csv, .jsonl or .parquet        imagefolder; also one in each of train/, test/, ... below
*.parquet                               shards, also train-00000-of-00002.parquet, data/, train/0000.parquet
train/CLASS/, test/CLASS/               images in folders of splits and classes
train.csv, test.csv                     a table a split
products.csv                            one table, images beside it
CLASS/                                  images in folders of classes
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from phisight.core.dataset_folder import FILE_NAME
from phisight.core.errors import SourceError, some
from phisight.data.images.image_names import is_hidden
from phisight.data.sources.base import Source
from phisight.data.sources.bounds import MAX_BYTES
from phisight.data.sources.delimited.delimited_source import DelimitedSource
from phisight.data.sources.delimited.encoding import DEFAULT
from phisight.data.sources.layouts.built_below import data_sets_below
from phisight.data.sources.layouts.folders import ImageFolderSource
from phisight.data.sources.layouts.parts import Part, PartsSource
from phisight.data.sources.parquet import ParquetSource
from phisight.data.sources.shards import SHARD_NAMES, ShardSource
from phisight.data.sources.split_names import split_of_name, splits_of
from phisight.data.sources.tables import JsonLinesSource

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILES = "file_names"
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".xlsx", ".xls", ".xlsb", ".ods")
_NO_TABLES = {"dataset_info.json", "dataset_infos.json", "state.json", "config.json", "package.json", "dataset.json"}


def open_directory(
    path: Path, open_file: Callable[[Path], Source], encoding: str = DEFAULT, max_bytes: int = MAX_BYTES
) -> Source:
    """The source in a folder; ``open_file`` opens one table. Data sets below it that phisight built are left out.

    SourceError when there is nothing to read.
    """
    built = data_sets_below(path)
    names = some([folder.relative_to(path) for folder in built])
    source = _opened(path, open_file, encoding, max_bytes, built)
    if source is None:
        beside = f" beside built data sets ({names})" if built else ""
        raise SourceError(f"{path} holds no table and no image{beside}; name the file itself, or another folder")
    if built:
        source.folder_notes = [f"data sets that were built below {path} are no part of the source: {names}"]
    return source


def _opened(
    path: Path, open_file: Callable[[Path], Source], encoding: str, max_bytes: int, built: Sequence[Path]
) -> Source | None:
    shards = _shards(path)
    if shards:
        return ShardSource(shards, max_bytes)
    metadata = _metadata(path, built)
    if metadata:
        parts = [_metadata_part(table, path, encoding, max_bytes) for table in metadata]
        return parts[0].source if metadata[0].parent == path else PartsSource(path, parts, "imagefolder")
    parquet = [file for file in visible_files(path, built) if file.suffix.lower() in (".parquet", ".pq")]
    if parquet:
        return _parquet(path, parquet, max_bytes)
    if any(file.suffix == ".arrow" for file in path.iterdir()):
        raise SourceError(f"{path} was written by save_to_disk; write it as Parquet (to_parquet) and build that")
    images = ImageFolderSource.found(path, built)
    if images is not None and images.has_splits:
        return images
    tables = _tables(path)
    if tables:
        return _loose(path, tables, open_file)
    inner = [folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__"))]
    if built:
        inner = [folder for folder in inner if any(visible_files(folder, built))]
    if len(inner) == 1 and _tables(inner[0]):
        return open_directory(inner[0], open_file, encoding, max_bytes)
    return images


def visible_files(path: Path, without: Collection[Path] = ()) -> Iterator[Path]:
    """Files below a folder in path order; hidden ones and those in hidden folders or ``without`` are left out."""
    for file in sorted(path.rglob("*")):
        hidden = any(map(is_hidden, file.relative_to(path).parts))
        if file.is_file() and not hidden and not (without and any(folder in without for folder in file.parents)):
            yield file


def _shards(path: Path) -> list[Path]:
    found = sorted(file for file in path.iterdir() if file.name.lower().endswith(SHARD_NAMES))
    if found:
        return found
    return sorted(
        file
        for folder in path.iterdir()
        if folder.is_dir() and (folder.name in ("data", "shards") or split_of_name(folder.name))
        for file in folder.iterdir()
        if file.name.lower().endswith(SHARD_NAMES)
    )


def _metadata(path: Path, built: Sequence[Path]) -> list[Path]:
    """The metadata table of the folder; else those of the folders below."""
    own = [path / name for name in _METADATA if (path / name).is_file()]
    return own[:1] or [file for file in visible_files(path, built) if file.name in _METADATA]


def _metadata_part(table: Path, root: Path, encoding: str, max_bytes: int) -> Part:
    source = _open_metadata(table, encoding, max_bytes)
    source.image_column = next((name for name in (FILE_NAME, _FILES) if name in source.schema.names), None)
    if source.image_column is None:
        raise SourceError(f"{table} has no column {FILE_NAME!r}; an imagefolder's table names its images there")
    source.description = {**source.description, "kind": f"imagefolder ({source.description['kind']})"}
    folders = table.parent.relative_to(root).parts
    split = next((split for name in reversed(folders) if (split := split_of_name(name))), None)
    return Part(source, split, "/".join(folders))


def _open_metadata(path: Path, encoding: str, max_bytes: int) -> Source:
    if path.suffix == ".csv":
        return DelimitedSource(path, encoding, max_bytes)
    return JsonLinesSource(path, max_bytes) if path.suffix == ".jsonl" else ParquetSource(path, max_bytes=max_bytes)


def _parquet(path: Path, files: Sequence[Path], max_bytes: int) -> Source:
    """Shards; a part for each split where all are named after one, by their own name or their folder's."""
    names = {file: file.stem if split_of_name(file.stem) else file.parent.name for file in files}
    splits = splits_of(sorted(set(names.values())))
    if splits is None:
        return ParquetSource(path, files, max_bytes)
    parts = []
    for split in dict.fromkeys(splits.values()):
        own = [file for file in files if splits[names[file]] == split]
        parts.append(Part(ParquetSource(path, own, max_bytes), split))
    return PartsSource(path, parts, "parquet")


def _tables(path: Path) -> list[Path]:
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    tables = [file for file in files if file.suffix.lower() in _TABLES]
    records = [file for file in files if file.suffix.lower() == ".json" and file.name not in _NO_TABLES]
    return tables or (records if len(records) == 1 else [])


def _loose(path: Path, tables: Sequence[Path], open_file: Callable[[Path], Source]) -> Source:
    splits = splits_of([table.stem for table in tables])
    if splits is not None:
        return PartsSource(path, [Part(open_file(table), splits[table.stem]) for table in tables], "tables")
    if len(tables) > 1:
        raise SourceError(f"{path} holds several tables ({some([table.name for table in tables])}); name one of them")
    source = open_file(tables[0])
    return PartsSource(path, [Part(source)], "folder") if source.root != path else source
