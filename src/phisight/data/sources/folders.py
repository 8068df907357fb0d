"""``imagefolder``: a folder of images, with a metadata table or with folder names as categories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.dataset_folder import FILE_NAME
from phisight.core.errors import SourceError
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.bounds import MAX_BYTES
from phisight.data.sources.tables import DelimitedSource, JsonLinesSource, ParquetSource, batches_of_records

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
}
_METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def open_folder(path: Path, encoding: str = "utf-8-sig", max_bytes: int = MAX_BYTES) -> Source:
    """The metadata table of an imagefolder, or its images where it has none."""
    for name in _METADATA_NAMES:
        table = path / name
        if table.is_file():
            source = _open_table(table, encoding, max_bytes)
            if FILE_NAME not in source.schema.names:
                raise SourceError(f"{table} has no column {FILE_NAME!r}; an imagefolder's table names its images there")
            source.image_column = FILE_NAME
            source.description = {**source.description, "kind": f"imagefolder ({source.description['kind']})"}
            return source
    return ImageFolderSource(path)


def _open_table(path: Path, encoding: str, max_bytes: int) -> DelimitedSource | JsonLinesSource | ParquetSource:
    if path.suffix == ".csv":
        return DelimitedSource(path, encoding, max_bytes)
    return JsonLinesSource(path, max_bytes) if path.suffix == ".jsonl" else ParquetSource(path)


PATH = "path"


class ImageFolderSource:
    """Images below a folder in path order; columns path, name (of the file) and category (its folder)."""

    typed = True
    schema = pa.schema([(PATH, pa.string()), ("name", pa.string()), ("category", pa.string())])
    image_column: str | None = PATH
    key_column: str | None = PATH

    def __init__(self, path: Path) -> None:
        self.root: Path | None = path
        inside = (file.relative_to(path) for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        self.files = sorted(file.as_posix() for file in inside if not any(part.startswith(".") for part in file.parts))
        if not self.files:
            raise SourceError(f"{path} holds no table and no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.description: dict[str, Any] = {"kind": "imagefolder", "name": path.name, "images": len(self.files)}

    def count(self) -> int | None:
        """Images."""
        return len(self.files)

    def batches(self) -> Iterator[SourceBatch]:
        """All images, in path order."""
        yield from batches_of_records(map(_row, self.files), self.schema)


def _row(name: str) -> dict[str, Any] | str:
    """The row of one image, or why there is none: a table holds text, and some file systems hold other names."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"the file name {name.encode('ascii', 'backslashreplace').decode()[:200]} is no UTF-8; rename it"
    return {PATH: name, "name": Path(name).stem, "category": _category(name)}


def _category(name: str) -> str | None:
    folder = Path(name).parent.name
    return folder or None
