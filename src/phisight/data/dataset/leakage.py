"""The leakage check: is one product or one image in more than one split? For any data set folder.

It reads the images themselves where the table has no fingerprints, so data sets that were not built here are checked
as strictly.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from phisight.core.dataset_folder import FILE_NAME, GROUP, SHA256, SPLIT
from phisight.core.errors import DatasetError
from phisight.data.dataset.folder import DatasetFolder, image_limits
from phisight.data.images.decode import prepare_image
from phisight.data.images.phash import as_arrays, near_duplicates
from phisight.data.images.rejection import Rejection
from phisight.data.images.verify import damaged

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
    splits = data.table[SPLIT].to_pylist()
    keys = list(map(str, data.table[data.card.key].to_pylist()))
    groups = list(map(str, data.table[GROUP].to_pylist())) if GROUP in data.table.column_names else keys
    shas, phashes, colors = _fingerprints(data)
    found = [
        _by_value("key", keys, splits, keys),
        _by_value("group", groups, splits, keys),
        _by_value("same image", shas, splits, keys),
        _near(shas, phashes, colors, splits, keys),
    ]
    return [leak for leak in found if leak is not None]


def damaged_images(data: DatasetFolder) -> list[str]:
    """Names of images that are missing or whose bytes are not those that were stored; empty without hashes."""
    if SHA256 not in data.table.column_names:
        return []
    names, hashes = data.table[FILE_NAME].to_pylist(), data.table[SHA256].to_pylist()
    files = {f"{data.path}/{name}": sha for name, sha in dict(zip(names, hashes, strict=True)).items()}
    return [path.relative_to(data.path).as_posix() for path in damaged(files.items())]


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
                image, _ = prepare_image(path.read_bytes(), replace(image_limits(data.card), min_side=1))
                found[str(path)] = (image.sha256, image.phash, image.colors)
            except Rejection:
                found[str(path)] = (str(path), "", "")
    every = [found[str(data.image_path(row))] for row in rows]
    return [f[0] for f in every], [f[1] for f in every], [f[2] for f in every]


def _near(shas: list[str], phashes: list[str], colors: list[str], splits: list[str], keys: list[str]) -> Leak | None:
    """Nearly the same image in different splits; images of one fingerprint are compared once."""
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, fingerprint in enumerate(zip(phashes, colors, strict=True)):
        if phashes[at]:
            members[fingerprint].append(at)
    prints = list(members.values())
    if not prints:
        return None
    try:
        arrays = as_arrays([phashes[rows[0]] for rows in prints], [colors[rows[0]] for rows in prints])
    except (ValueError, OverflowError) as error:
        raise DatasetError("the table's perceptual hashes cannot be read; build the folder again") from error
    stands_in = [{splits[at] for at in rows} for rows in prints]
    leaking: set[int] = set()
    for rows, found in zip(prints, stands_in, strict=True):
        if len(found) > 1 and len({shas[at] for at in rows}) > 1:
            leaking.update(rows)
    for one, two in near_duplicates(*arrays):
        if len(stands_in[one] | stands_in[two]) > 1:
            leaking.update(prints[one], prints[two])
    return _leak("near image", sorted(leaking), splits, keys)


def _by_value(kind: str, values: list[str], splits: list[str], keys: list[str]) -> Leak | None:
    members: dict[str, list[int]] = defaultdict(list)
    for at, value in enumerate(values):
        members[value].append(at)
    leaking = [rows for rows in members.values() if len({splits[at] for at in rows}) > 1]
    return _leak(kind, sorted(at for rows in leaking for at in rows), splits, keys)


def _leak(kind: str, rows: list[int], splits: list[str], keys: list[str]) -> Leak | None:
    if not rows:
        return None
    return Leak(kind, len(rows), [f"{keys[at]} in {splits[at]}" for at in rows[:_SHOWN]])
