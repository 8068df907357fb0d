"""Images in folders: the folder's name is the category, a folder above it may name the split."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Self

import pyarrow as pa

from phisight.core.dataset_folder import SPLIT
from phisight.data.images.image_names import image_files
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.split_names import splits_of
from phisight.data.sources.tables import batches_of_records

PATH, NAME, CATEGORY = "path", "name", "category"


class ImageFolderSource(Source):
    """Images below a folder in path order; columns path, name (of the file), category (its folder) and split.

    The column split is there where the folder's own folders are called train, validation, test. A name that is no
    UTF-8 is written with percent signs for its bytes, which paths of images may have.
    """

    image_column: str | None = PATH
    key_column: str | None = PATH
    asked_only = (NAME,)

    def __init__(self, path: Path, files: list[str]) -> None:
        self.root: Path | None = path
        self.files = files
        self._splits = splits_of(sorted({PurePosixPath(file).parts[0] for file in files}))
        names = [PATH, NAME, CATEGORY, *([SPLIT] if self._splits else [])]
        self.schema = pa.schema([(name, pa.string()) for name in names])
        self.description: dict[str, Any] = {"kind": "imagefolder", "name": path.name, "images": len(files)}
        odd = sum(not _is_text(file) for file in files)
        self.notes = [f"{odd} names of files are no UTF-8: their bytes are shown with percent signs"] if odd else []

    @classmethod
    def found(cls, path: Path, without: Collection[Path] = ()) -> Self | None:
        """The images below a folder; None where there is none. Hidden ones and folders in ``without`` are left out."""
        files = image_files(path, without)
        return cls(path, files) if files else None

    @property
    def has_splits(self) -> bool:
        """Whether the folders name splits."""
        return self._splits is not None

    def count(self) -> int | None:
        """Images."""
        return len(self.files)

    def batches(self) -> Iterator[SourceBatch]:
        """All images, in path order."""
        yield from batches_of_records(map(self._row, self.files), self.schema)

    def _row(self, file: str) -> dict[str, Any]:
        path = PurePosixPath(file)
        folders = list(path.parts[:-1])
        row: dict[str, Any] = {PATH: _escaped(file), NAME: _readable(path.stem)}
        if self._splits:
            row[SPLIT] = self._splits[folders.pop(0)] if folders else None
        row[CATEGORY] = _readable(folders[-1]) if folders else None
        return row


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(name: str) -> str:
    """A name as UTF-8: bytes that are none with percent signs (``caf%E9.jpg``)."""
    if _is_text(name):
        return name
    return "".join(one if _is_text(one) else f"%{os.fsencode(one)[0]:02X}" for one in name)


def _readable(name: str) -> str:
    """A name as text, read as Western where it is no UTF-8."""
    return name if _is_text(name) else os.fsencode(name).decode("cp1252", "replace")
