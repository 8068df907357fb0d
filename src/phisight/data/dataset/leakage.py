"""The leakage check: is one product or one image in more than one split? For any data set folder.

It reads the images themselves where the table has no fingerprints, so data sets that were not built here are checked
as strictly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from phisight.core.dataset_folder import GROUP, SHA256, SPLIT
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import ImageLimits, prepare_image
from phisight.data.images.phash import as_arrays, near_duplicates
from phisight.data.images.rejection import Rejection

_SHOWN = 5


@dataclass(frozen=True)
class Leak:
    """Rows of different splits that have something in common."""

    kind: str
    """key, group, same image or near image."""
    count: int
    """Rows concerned."""
    examples: list[str]
    """The first few, each with the splits."""


def find_leaks(data: DatasetFolder) -> list[Leak]:
    """Every way in which a row's product or image stands in another split too; empty when there is none."""
    rows = data.rows()
    splits = [str(row[SPLIT]) for row in rows]
    keys = [str(row[data.card.key]) for row in rows]
    shas, phashes, colors = _fingerprints(data)
    found = [
        _by_value("key", keys, splits, keys),
        _by_value("group", [str(row.get(GROUP, key)) for row, key in zip(rows, keys, strict=True)], splits, keys),
        _by_value("same image", shas, splits, keys),
        _by_pairs("near image", _near(shas, phashes, colors), splits, keys),
    ]
    return [leak for leak in found if leak is not None]


def _fingerprints(data: DatasetFolder) -> tuple[list[str], list[str], list[str]]:
    """SHA-256, perceptual hash and colors of every row's image; from the table where they are there."""
    names = [SHA256, "image_phash", "image_colours"]
    if all(name in data.table.column_names for name in names):
        shas, phashes, colors = (data.table[name].to_pylist() for name in names)
        return shas, phashes, colors
    found: dict[str, tuple[str, str, str]] = {}
    rows = data.rows()
    for row in rows:
        path = data.image_path(row)
        if str(path) not in found:
            try:
                image, _ = prepare_image(path.read_bytes(), ImageLimits(min_side=1))
                found[str(path)] = (image.sha256, image.phash, image.colors)
            except Rejection:
                found[str(path)] = (str(path), "", "")
    every = [found[str(data.image_path(row))] for row in rows]
    return [f[0] for f in every], [f[1] for f in every], [f[2] for f in every]


def _near(shas: list[str], phashes: list[str], colors: list[str]) -> Iterator[tuple[int, int]]:
    readable = [at for at, phash in enumerate(phashes) if phash]
    arrays = as_arrays([phashes[at] for at in readable], [colors[at] for at in readable])
    for one, two in near_duplicates(*arrays):
        first, second = readable[one], readable[two]
        if shas[first] != shas[second]:
            yield first, second


def _by_value(kind: str, values: list[str], splits: list[str], keys: list[str]) -> Leak | None:
    members: dict[str, list[int]] = defaultdict(list)
    for at, value in enumerate(values):
        members[value].append(at)
    leaking = [rows for rows in members.values() if len({splits[at] for at in rows}) > 1]
    return _leak(kind, sorted(at for rows in leaking for at in rows), splits, keys)


def _by_pairs(kind: str, pairs: Iterable[tuple[int, int]], splits: list[str], keys: list[str]) -> Leak | None:
    leaking = {at for pair in pairs if splits[pair[0]] != splits[pair[1]] for at in pair}
    return _leak(kind, sorted(leaking), splits, keys)


def _leak(kind: str, rows: list[int], splits: list[str], keys: list[str]) -> Leak | None:
    if not rows:
        return None
    return Leak(kind, len(rows), [f"{keys[at]} in {splits[at]}" for at in rows[:_SHOWN]])
