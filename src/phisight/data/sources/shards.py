"""WebDataset shards: tar files whose members ``KEY.jpg``, ``KEY.json``, ``KEY.txt`` make one row.

Members are read in a stream and never unpacked to disk, so names that climb out of a folder climb nowhere.
"""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from phisight.core.errors import SourceError
from phisight.data.sources.base import SourceBatch
from phisight.data.sources.bounds import MAX_BYTES, CappedReader, open_packed
from phisight.data.sources.folders import IMAGE_SUFFIXES
from phisight.data.sources.tables import batches_of_records, column_types, file_description, fitted

KEY, IMAGE = "__key__", "image"
_TEXTS = (".txt", ".caption", ".cls")


class ShardSource:
    """Shards in name order; columns are the key, the fields of the JSON members and the text members."""

    root: Path | None = None
    image_column: str | None = IMAGE
    key_column: str | None = KEY
    typed = True

    def __init__(self, paths: list[Path], max_bytes: int = MAX_BYTES) -> None:
        self.paths = paths
        self.max_bytes = max_bytes
        self.description: dict[str, Any] = {
            "kind": "webdataset",
            "files": [file_description("tar", path) for path in paths],
        }
        self._count = 0
        types = column_types(self._counted())
        types.pop(IMAGE, None)
        if self._count == 0:
            raise SourceError(f"{paths[0]} holds no samples: members KEY.jpg with KEY.json or KEY.txt are due")
        self.schema = pa.schema([*types.items(), (IMAGE, pa.binary())])

    def count(self) -> int | None:
        """Samples."""
        return self._count

    def _counted(self) -> Iterator[dict[str, Any] | str]:
        for sample in self._samples(images=False):
            self._count += 1
            yield sample

    def batches(self) -> Iterator[SourceBatch]:
        """All samples; one without an image is rejected later, one with a broken JSON is malformed."""
        yield from batches_of_records(fitted(self._samples(images=True), self.schema), self.schema, rows=64)

    def _samples(self, images: bool) -> Iterator[dict[str, Any] | str]:
        for path in self.paths:
            sample: dict[str, Any] = {}
            problem = ""
            for name, suffix, data in _members(path, images, self.max_bytes):
                if sample and name != sample[KEY]:
                    yield problem or sample
                    sample, problem = {}, ""
                sample[KEY] = name
                if data is None:
                    problem = f"the {suffix} member holds more than {self.max_bytes} bytes; --max-bytes"
                else:
                    problem = _add(sample, suffix, data) or problem
            if sample:
                yield problem or sample


def _members(path: Path, images: bool, max_bytes: int) -> Iterator[tuple[str, str, bytes | None]]:
    """(key, suffix, content) of the files in a shard; None for one of more than ``max_bytes``.

    Images are skipped over where they are not wanted.
    """
    try:
        with open_packed(path) as file, tarfile.open(fileobj=_capped(file, max_bytes, path), mode="r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                if not member.isreg() or not dot or not stem:
                    continue
                suffix = "." + suffix.lower()
                key, data = f"{folder}/{stem}".lstrip("/"), b""
                if member.size > max_bytes:
                    yield key, suffix, None
                    continue
                if images or suffix not in IMAGE_SUFFIXES:
                    content = tar.extractfile(member)
                    data = content.read() if content else b""
                yield key, suffix, data
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SourceError(f"{path} is no whole tar file: {error}") from error


def _capped(file: IO[bytes], most: int, path: Path) -> IO[bytes]:
    return cast(IO[bytes], CappedReader(file, most, path))  # tarfile needs read, seek and tell


def _add(sample: dict[str, Any], suffix: str, data: bytes) -> str:
    """Put one member into its sample; the reason when it cannot be read."""
    if suffix in IMAGE_SUFFIXES:
        sample[IMAGE] = data
    elif suffix == ".json":
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return "the JSON member cannot be read"
        if not isinstance(value, dict):
            return "the JSON member is no object"
        sample.update({name: content for name, content in value.items() if name not in (KEY, IMAGE)})
    elif suffix in _TEXTS:
        sample[suffix[1:]] = data.decode("utf-8", "replace").strip()
    return ""
