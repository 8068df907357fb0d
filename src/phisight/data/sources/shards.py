"""WebDataset shards: tar files whose members ``KEY.jpg``, ``KEY.json``, ``KEY.txt`` make one row.

Members are read in a stream and never unpacked to disk, so names that climb out of a folder climb nowhere. A key ends
at the first point of a member's name, or at the last one where that makes more samples with an image and fields.
Members of one sample that do not follow each other are put together; members that are not used are counted and said.
"""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import pyarrow as pa

from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import SourceError
from phisight.data.images.image_names import IMAGE_SUFFIXES
from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.bounds import MAX_BYTES, CappedReader, open_packed
from phisight.data.sources.split_names import splits_of
from phisight.data.sources.tables import batches_of_records, column_types, file_description, fitted, flat

KEY, IMAGE = "__key__", "image"
SHARD_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_TEXTS = (".txt", ".caption", ".cls")
_NO_PHOTOS = {"mask", "seg", "segmentation", "semantic", "instance", "depth", "label", "alpha", "edges", "normal"}
"""Parts of a member's name (``KEY.mask.png``) that say that it shows no product."""


class ShardSource(Source):
    """Shards in name order; columns are the key, the fields of the JSON members, the text members, the images.

    Shards that are all named after splits (``train-0000.tar``) add a column split.
    """

    root: Path | None = None
    image_column: str | None = IMAGE
    key_column: str | None = KEY

    def __init__(self, paths: list[Path], max_bytes: int = MAX_BYTES) -> None:
        self.paths = paths
        self.max_bytes = max_bytes
        self.description: dict[str, Any] = {
            "kind": "webdataset",
            "files": [file_description("tar", path) for path in paths],
        }
        self._splits = splits_of([path.name.partition(".")[0] for path in paths])
        rules = {"first": _Survey(_at_first_point), "last": _Survey(_at_last_point)}
        unused: Counter[str] = Counter()
        types = column_types(self._surveyed(list(rules.values()), unused))
        self._names = max(rules.values(), key=lambda one: one.complete)
        if self._names.keys == 0:
            raise SourceError(f"{paths[0]} holds no samples: members KEY.jpg with KEY.json or KEY.txt are due")
        for name in (KEY, IMAGE, SPLIT if self._splits else IMAGE):
            types.pop(name, None)
        image = pa.list_(pa.binary()) if self._names.several else pa.binary()
        split = [(SPLIT, pa.string())] if self._splits else []
        self.schema = pa.schema([(KEY, pa.string()), *types.items(), *split, (IMAGE, image)])
        self.notes = [f"{count} members {name} are not used" for name, count in unused.most_common(5)]

    def count(self) -> int | None:
        """Samples."""
        return self._names.keys

    def _surveyed(self, rules: list[_Survey], unused: Counter[str]) -> Iterator[dict[str, Any]]:
        """The fields of every member, while the names of all are looked at under each rule."""
        for path in self.paths:
            for name, data in _members(path, images=False, max_bytes=self.max_bytes):
                kind = _kind(name)
                if kind == "unused":
                    unused[f"*.{'.'.join(PurePosixPath(name).name.split('.')[1:])[-30:]}"] += 1
                    continue
                for rule in rules:
                    rule.add(name, kind)
                fields: dict[str, Any] = {}
                if data is not None and not _add(fields, name, data):
                    yield fields
            for rule in rules:
                rule.end_shard(path)

    def batches(self) -> Iterator[SourceBatch]:
        """All samples; one without an image is rejected later, one with a broken JSON is malformed."""
        yield from batches_of_records(fitted(self._samples(), self.schema), self.schema, rows=64)

    def _samples(self) -> Iterator[dict[str, Any] | str]:
        for path in self.paths:
            split = {SPLIT: self._splits[path.name.partition(".")[0]]} if self._splits else {}
            groups = self._put_together(path) if path in self._names.unsorted else self._following(path)
            for key, members in groups:
                sample: dict[str, Any] = {}
                problem = ""
                for name, data in members:
                    if data is None:
                        problem = f"the member {name[-60:]} holds more than {self.max_bytes} bytes; --max-bytes"
                    else:
                        problem = _add(sample, name, data) or problem
                images = sample.pop(IMAGE, [])
                shown = images if self._names.several else (images[0] if images else None)
                yield problem or {**sample, KEY: key, **split, IMAGE: shown}

    def _following(self, path: Path) -> Iterator[tuple[str, list[tuple[str, bytes | None]]]]:
        """The members of each sample, which follow each other."""
        key = ""
        members: list[tuple[str, bytes | None]] = []
        for name, data in _members(path, images=True, max_bytes=self.max_bytes):
            if _kind(name) == "unused":
                continue
            if members and self._names.rule(name) != key:
                yield key, members
                members = []
            key = self._names.rule(name)
            members.append((name, data))
        if members:
            yield key, members

    def _put_together(self, path: Path) -> Iterator[tuple[str, list[tuple[str, bytes | None]]]]:
        """The members of each sample, wherever they stand in the shard."""
        if path.suffix != ".tar":
            raise SourceError(f"{path}: the members of a sample do not follow each other; unpack it to a .tar first")
        with path.open("rb") as file, tarfile.open(fileobj=_capped(file, self.max_bytes, path), mode="r:") as tar:
            groups: dict[str, list[tarfile.TarInfo]] = defaultdict(list)
            for member in tar:
                if _is_named(member) and _kind(member.name) != "unused":
                    groups[self._names.rule(member.name)].append(member)
            for key, members in groups.items():
                yield key, [(member.name, _content(tar, member, self.max_bytes)) for member in members]


def _at_first_point(name: str) -> str:
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}".lstrip("/")


def _at_last_point(name: str) -> str:
    return name.rpartition(".")[0].lstrip("/")


@dataclass
class _Survey:
    """What the names of all members come to under a rule for keys."""

    rule: Callable[[str], str]
    complete: int = 0
    """Samples that have an image and fields."""
    keys: int = 0
    several: bool = False
    """Some sample has several images."""
    unsorted: set[Path] = field(default_factory=set)
    """Shards in which the members of a sample do not follow each other."""
    _images: Counter[str] = field(default_factory=Counter)
    _fields: set[str] = field(default_factory=set)
    _last: str = ""
    _torn: bool = False

    def add(self, name: str, kind: str) -> None:
        key = self.rule(name)
        self._torn |= key != self._last and (key in self._images or key in self._fields)
        self._last = key
        if kind == "image":
            self._images[key] += 1
        else:
            self._fields.add(key)

    def end_shard(self, path: Path) -> None:
        self.complete += len(self._fields & set(self._images))
        self.keys += len(self._fields | set(self._images))
        self.several |= max(self._images.values(), default=0) > 1
        if self._torn:
            self.unsorted.add(path)
        self._images, self._fields, self._last, self._torn = Counter(), set(), "", False


def _kind(name: str) -> str:
    """image, fields, or unused."""
    *parts, suffix = PurePosixPath(name).name.lower().split(".")[1:]
    if f".{suffix}" in IMAGE_SUFFIXES:
        return "unused" if _NO_PHOTOS & set(parts) else "image"
    return "fields" if suffix == "json" or f".{suffix}" in _TEXTS else "unused"


def _is_named(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file with a stem and an ending."""
    stem, point, suffix = member.name.rpartition("/")[2].partition(".")
    return bool(member.isreg() and stem and point and suffix)


def _members(path: Path, images: bool, max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
    """Name and content of the files in a shard; None for one of more than ``max_bytes``.

    Images are skipped over where they are not wanted.
    """
    try:
        with open_packed(path) as file, tarfile.open(fileobj=_capped(file, max_bytes, path), mode="r:") as tar:
            for member in tar:
                if _is_named(member):
                    wanted = images or _kind(member.name) == "fields"
                    yield member.name, _content(tar, member, max_bytes) if wanted else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SourceError(f"{path} is no whole tar file: {error}") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int) -> bytes | None:
    if member.size > max_bytes:
        return None
    file = tar.extractfile(member)
    return file.read() if file else b""


def _capped(file: IO[bytes], most: int, path: Path) -> IO[bytes]:
    return cast(IO[bytes], CappedReader(file, most, path))  # tarfile needs read, seek and tell


def _add(sample: dict[str, Any], name: str, data: bytes) -> str:
    """Put one member into its sample, images as a list; the reason when it cannot be read."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        sample.setdefault(IMAGE, []).append(data)
    elif suffix == ".json":
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return "the JSON member cannot be read"
        if not isinstance(value, dict):
            return "the JSON member is no object"
        sample.update({name: content for name, content in flat(value).items() if name not in (KEY, IMAGE)})
    else:
        sample[suffix[1:]] = data.decode("utf-8", "replace").strip()
    return ""
