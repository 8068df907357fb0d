"""SOURCE of a bulk prediction to a numbered list of images: folders, globs, tables, addresses, files, standard input.

Every row of a source is one image of the list, in the source's order: a row whose image cannot be used is an image that
fails when its turn comes. Cells of a table follow the rules of ``phisight data build``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from phisight.core.errors import SourceError, some
from phisight.data.fetch.addresses import redacted
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.local_files import LocalFiles
from phisight.data.fetch.request import job_for
from phisight.data.images.formats import recognized
from phisight.data.images.image_names import IMAGE_SUFFIXES
from phisight.data.images.rejection import Rejection
from phisight.data.sources.base import MalformedRow, Source
from phisight.data.sources.excel import SUFFIXES as EXCEL
from phisight.data.sources.layouts.folders import ImageFolderSource
from phisight.data.sources.layouts.open import open_source
from phisight.extraction.url_images import FetchedImage, StoredBytes, is_url
from phisight.generate.requests import ImageSource, unusable

NAMES = ("image", "image_url", "file_name", "url", "photo", "path", "img", "src")
"""Columns that are taken for the image when the source does not say, most telling first."""
STANDARD_INPUT = "-"
LONGEST_NAME = 2000
TABLES = {".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".pq", ".json", ".tar", *EXCEL}
_MAGIC = "*?["


@dataclass(frozen=True)
class NamedImage:
    """One image of the list."""

    name: str
    """Path, address, or number of the row; valid Unicode."""
    image: ImageSource


class Part(Protocol):
    """What one SOURCE holds."""

    def __len__(self) -> int:
        """Images, as far as that is cheap to know; 0 where it is not."""

    def __iter__(self) -> Iterator[NamedImage]:
        """All of them, each time the same."""


class ImageList:
    """Images in a fixed order; going through twice gives the same ones.

    Args:
        sources: Folders, globs, tables, hub names (``hf:owner/name``), addresses, images, ``-`` for standard input.
        column: Column of tables that holds the images; None means the one that the source or its name tells.
        limits: Rules for addresses.
        root: Folder that paths of tables start from; None means the table's own.
        without: Files that globs leave out.
    """

    def __init__(
        self,
        sources: Sequence[str],
        column: str | None = None,
        limits: FetchLimits | None = None,
        *,
        root: Path | None = None,
        without: Collection[Path] = (),
    ) -> None:
        if root is not None and not root.is_dir():
            raise SourceError(f"--image-root {root} is no folder; name the one that the table's paths start from")
        self.sources = list(sources)
        self._limits, self._root, self._column = limits or FetchLimits(), root, column
        self._without = {path.absolute() for path in without}
        self._parts = [self._part(name) for name in sources]

    def __len__(self) -> int:
        """Images, as far as that is cheap to know; 0 where it is not."""
        counts = [len(part) for part in self._parts]
        return sum(counts) if all(counts) else 0

    def __iter__(self) -> Iterator[NamedImage]:
        for part in self._parts:
            yield from part

    def _part(self, name: str) -> Part:
        path = Path(name)
        if name == STANDARD_INPUT:
            return _Files(_listed(sys.stdin.buffer.read()), self._limits)
        if is_url(name):
            return _Files([name], self._limits)
        if not name.startswith("hf:") and not path.exists() and any(sign in name for sign in _MAGIC):
            return _Files(self._matching(name), self._limits)
        if not path.is_dir() and (path.suffix.lower() in IMAGE_SUFFIXES or _begins_as_image(path)):
            return _Files([name], self._limits)
        source = _opened(name)
        if isinstance(source, ImageFolderSource):
            return _Folder(path, source.files, full_names=len(self.sources) > 1)
        return _Table(name, source, self._column, self._root, self._limits)

    def _matching(self, pattern: str) -> list[str]:
        """Files that a pattern names, in path order; ``**`` goes into folders."""
        parts = Path(pattern).parts
        fixed = next(place for place, part in enumerate(parts) if any(sign in part for sign in _MAGIC))
        root = Path(*parts[:fixed])
        every = (path for path in root.glob(str(Path(*parts[fixed:]))) if path.is_file())
        found = sorted(str(path) for path in every if path.absolute() not in self._without)
        if not found:
            raise SourceError(f"{pattern} matches no file; put the pattern in quotes and check the folder")
        return found


def _opened(name: str) -> Source:
    """The table, shards or folder that a name means; SourceError, which of a file of another kind says what may be."""
    try:
        return open_source(name)
    except SourceError as error:
        path = Path(name)
        if not path.is_file() or path.suffix.lower() in TABLES:
            raise
        raise SourceError(f"{error}; predictions are made of images, a folder of images, or a table of them") from error


class _Files:
    """Paths and addresses."""

    def __init__(self, names: list[str], limits: FetchLimits) -> None:
        self._names, self._limits = names, limits

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[NamedImage]:
        for name in self._names:
            if is_url(name):
                yield _of_cell(_without_user(readable(name)), name, None, self._limits)
            else:
                yield NamedImage(readable(name), Path(name))


class _Folder:
    """Files of a folder, named from there."""

    def __init__(self, folder: Path, files: list[str], *, full_names: bool) -> None:
        self._folder, self._files, self._full = folder, files, full_names

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[NamedImage]:
        for file in self._files:
            path = self._folder / file
            yield NamedImage(readable(str(path) if self._full else file), path)


class _Table:
    """Cells of the image column."""

    def __init__(self, name: str, source: Source, column: str | None, root: Path | None, limits: FetchLimits) -> None:
        names = source.schema.names
        folder = root or source.root
        self._source, self._limits = source, limits
        self._local = LocalFiles(folder) if folder is not None else None
        self._column = column or source.image_column or _guessed(source)
        if self._column not in names:
            raise SourceError(f"{name} has no column {self._column!r}; its columns are {some(names, 20)}")

    def __len__(self) -> int:
        return self._source.count() or 0

    def __iter__(self) -> Iterator[NamedImage]:
        for batch in self._source.batches():
            cells = batch.table[self._column].to_pylist()
            rows: list[tuple[int, Any]] = [*zip(batch.numbers, cells, strict=True)]
            rows += [(bad.number, bad) for bad in batch.malformed]
            for number, cell in sorted(rows, key=lambda row: row[0]):
                yield self._named(number, cell)

    def _named(self, number: int, cell: Any) -> NamedImage:
        name = _name_of(cell) or f"row {number}"
        if isinstance(cell, MalformedRow):
            return NamedImage(name, unusable(f"row {number}: {cell.reason}"))
        return _of_cell(name, cell, self._local, self._limits)


def _of_cell(name: str, cell: Any, local: LocalFiles | None, limits: FetchLimits) -> NamedImage:
    """A local path, an address, or bytes, by the rules of a table's cells."""
    try:
        job = job_for(cell, local)
    except Rejection as rejection:
        return NamedImage(name, unusable(f"{redacted(name)}: {rejection.reason}"))
    if job.body is not None:
        return NamedImage(name, StoredBytes(job.body, name))
    return NamedImage(name, Path(job.path) if job.path is not None else FetchedImage(str(job.url), limits))


def readable(text: str) -> str:
    """A text that every format holds: bytes of a file name that are no UTF-8 become escapes such as ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode()


def _name_of(cell: Any) -> str:
    """What a cell calls its image; empty where it does not."""
    if isinstance(cell, dict):
        cell = cell.get("path")
    if cell is None or isinstance(cell, bytes | bytearray | memoryview | MalformedRow):
        return ""
    text = readable(str(cell).strip())
    return "data:" if text.lower().startswith("data:") else _without_user(text)[:LONGEST_NAME]


def _without_user(name: str) -> str:
    """An address without the user and password that it holds; its query stays, since that may be what tells rows."""
    return redacted(name) if is_url(name) and "@" in name.partition("?")[0] else name


def _begins_as_image(path: Path) -> bool:
    """Whether a file that is not called a table holds an image."""
    if path.suffix.lower() in TABLES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            recognized(file.read(512))
    except (OSError, Rejection):
        return False
    return True


def _listed(data: bytes) -> list[str]:
    """Names on standard input, one a line; between NUL bytes (``find -print0``) where there are some."""
    separated = data.split(b"\0") if b"\0" in data else data.splitlines()
    names = [os.fsdecode(name) for name in separated if name.strip()]
    if not names:
        raise SourceError("standard input names no image; pipe in paths or addresses, one a line")
    return names


def _guessed(source: Source) -> str:
    names = source.schema.names
    lower = {name.lower(): name for name in names}
    found = next((lower[name] for name in NAMES if name in lower), None)
    if found is None:
        raise SourceError(f"none of the columns {some(names, 20)} is known to hold images; name it with --image-column")
    return str(found)
