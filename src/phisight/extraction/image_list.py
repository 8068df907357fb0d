"""SOURCE of a bulk prediction to a numbered list of images: a folder, glob, table, address, or images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phisight.core.errors import SourceError, some
from phisight.data.fetch.limits import FetchLimits
from phisight.data.sources.base import Source
from phisight.data.sources.folders import IMAGE_SUFFIXES
from phisight.data.sources.open import open_source
from phisight.extraction.extractor import source_of
from phisight.extraction.url_images import is_url
from phisight.generate.requests import ImageSource

NAMES = ("image", "image_url", "file_name", "url", "photo", "path", "img", "src")
"""Columns that are taken for the image when the source does not say, most telling first."""


@dataclass(frozen=True)
class NamedImage:
    """One image of the list."""

    name: str
    image: ImageSource


class ImageList:
    """Images in a fixed order; going through twice gives the same ones."""

    def __init__(self, sources: Sequence[str], column: str | None = None, limits: FetchLimits | None = None) -> None:
        self.sources = list(sources)
        self._limits = limits
        self._table: Source | None = None
        self._files: list[str] = []
        if len(sources) == 1 and not _is_image(sources[0]):
            self._open(sources[0], column)
        else:
            self._files = list(sources)

    def _open(self, name: str, column: str | None) -> None:
        if any(sign in name for sign in "*?[") and not Path(name).exists():
            self._files = _matching(name)
            if not self._files:
                raise SourceError(f"{name} matches no file; put the pattern in quotes and check the folder")
            return
        self._table = open_source(name)
        names = self._table.schema.names
        self._column = column or self._table.image_column or _guessed(self._table)
        if self._column not in names:
            raise SourceError(f"{name} has no column {self._column!r}; its columns are {some(names, 20)}")

    def __len__(self) -> int:
        """Images, as far as that is cheap to know; 0 where it is not."""
        return (self._table.count() or 0) if self._table is not None else len(self._files)

    def __iter__(self) -> Iterator[NamedImage]:
        if self._table is None:
            for name in self._files:
                yield NamedImage(name, source_of(name, self._limits))
            return
        for batch in self._table.batches():
            for value in batch.table[self._column].to_pylist():
                yield self._named(value, self._table.root)

    def _named(self, value: Any, root: Path | None) -> NamedImage:
        """A cell of the image column: a path, an address, bytes, or both as the hub stores them."""
        if isinstance(value, dict):
            data, name = value.get("bytes"), value.get("path")
            return (
                NamedImage(str(name or "an image of the table"), source_of(data)) if data else self._named(name, root)
            )
        if isinstance(value, bytes):
            return NamedImage(f"{len(value)} bytes", source_of(value))
        if value is None or not str(value).strip():
            return NamedImage("", Path("an empty cell"))
        text = str(value).strip()
        if is_url(text):
            return NamedImage(text, source_of(text, self._limits))
        return NamedImage(text, (root / text) if root is not None else Path(text))


def _is_image(name: str) -> bool:
    return is_url(name) or (Path(name).suffix.lower() in IMAGE_SUFFIXES and not any(sign in name for sign in "*?["))


def _matching(pattern: str) -> list[str]:
    """Files that a pattern names, in path order; ``**`` goes into folders."""
    parts = Path(pattern).parts
    fixed = next(place for place, part in enumerate(parts) if any(sign in part for sign in "*?["))
    root = Path(*parts[:fixed])
    return sorted(str(path) for path in root.glob(str(Path(*parts[fixed:]))) if path.is_file())


def _guessed(source: Source) -> str:
    names = source.schema.names
    lower = {name.lower(): name for name in names}
    found = next((lower[name] for name in NAMES if name in lower), None)
    if found is None:
        raise SourceError(f"none of the columns {some(names, 20)} is known to hold images; name it with --image-column")
    return str(found)
