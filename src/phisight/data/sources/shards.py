"""WebDataset shards: tar files whose members ``KEY.jpg``, ``KEY.json``, ``KEY.txt`` make one row.

Members are read in a stream and never unpacked to disk, so names that climb out of a folder climb nowhere.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.errors import SourceError
from phisight.data.sources.base import SourceBatch
from phisight.data.sources.folders import IMAGE_SUFFIXES
from phisight.data.sources.tables import batches_of_records, column_types, file_description, fitted

KEY, IMAGE = "__key__", "image"
_LARGEST_MEMBER = 256_000_000
_TEXTS = (".txt", ".caption", ".cls")


class ShardSource:
    """Shards in name order; columns are the key, the fields of the JSON members and the text members."""

    root: Path | None = None
    image_column: str | None = IMAGE
    key_column: str | None = KEY
    typed = True

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
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
            for name, suffix, data in _members(path, images):
                if sample and name != sample[KEY]:
                    yield problem or sample
                    sample, problem = {}, ""
                sample[KEY] = name
                problem = _add(sample, suffix, data) or problem
            if sample:
                yield problem or sample


def _members(path: Path, images: bool) -> Iterator[tuple[str, str, bytes]]:
    """(key, suffix, content) of the files in a shard; images are skipped over where they are not wanted."""
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                if not member.isreg() or not dot or not stem:
                    continue
                suffix = "." + suffix.lower()
                wanted = member.size <= _LARGEST_MEMBER and (images or suffix not in IMAGE_SUFFIXES)
                file = tar.extractfile(member) if wanted else None
                yield f"{folder}/{stem}".lstrip("/"), suffix, file.read() if file else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise SourceError(f"{path} is no whole tar file: {error}") from error


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
