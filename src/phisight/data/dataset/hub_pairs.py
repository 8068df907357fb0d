"""Pairs of a hub data set into a folder of pairs, with TRL's columns ``images``, ``prompt``, ``chosen``, ``rejected``.

    hf:OWNER/NAME --rows, streamed--> DIR/pairs.jsonl and DIR/fetched/<hash>.<kind>

Rows of a split that is not for training are left out, and with them every pair that shows one of their products: an
image of the same bytes, or a row of the same ``group``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phisight.core.dataset_folder import GROUP
from phisight.core.errors import DatasetError, SettingsError, some
from phisight.core.run_folder import atomic_file, write_text_atomically
from phisight.data.dataset.preference_pairs import PAIRS
from phisight.data.images.formats import recognized
from phisight.data.images.rejection import Rejection
from phisight.data.sources.hub import SPLIT_COLUMN, HubSource

FETCHED = "fetched"
"""Folder beside the pairs that holds their images."""
COLUMNS = ("prompt", "chosen", "rejected")
TRAIN = "train"


@dataclass
class FetchedPairs:
    """What became of the rows."""

    pairs: int = 0
    other_splits: int = 0
    """Rows of a split that is not for training."""
    held_back: int = 0
    """Pairs that show a product of such a split."""
    left_out: list[str] = field(default_factory=list)
    """A sentence for each row whose images cannot be used."""


def fetch_pairs(name: str, out: Path, progress: Callable[[int], None] = lambda _rows: None) -> FetchedPairs:
    """Write the pairs of ``hf:OWNER/NAME[@REVISION][:CONFIG][#SPLIT]``; a split that is named is for training.

    Raises:
        SourceError: The data set cannot be read.
        SettingsError: ``out`` holds something already, or the data set has other columns.
        DatasetError: No row can be used.
    """
    if out.is_dir() and any(out.iterdir()):
        raise SettingsError(f"{out} is not empty; choose another --out")
    source = HubSource.parse(name)
    names = set(source.schema.names)
    missing = sorted({*COLUMNS} - names) or ([] if names & {"images", "image"} else ["images"])
    if missing:
        raise SettingsError(f"{name} has no column {some(missing)}; it has {some(source.schema.names)}")
    made = FetchedPairs()
    lines: list[tuple[set[str], list[str], str]] = []
    held: set[str] = set()
    for number, split, row in _rows(source):
        progress(number)
        try:
            images = _images(row)
        except ValueError as error:
            made.left_out.append(f"row {number}: {error}")
            continue
        products = {hashlib.sha256(data).hexdigest() for data, _ in images}
        products |= {f"group {row[GROUP]}"} if row.get(GROUP) is not None else set()
        if split != TRAIN:
            made.other_splits += 1
            held |= products
            continue
        files = [_written(data, kind, out) for data, kind in images]
        group = {GROUP: str(row[GROUP])} if row.get(GROUP) is not None else {}
        pair = {"images": files, **{column: row[column] for column in COLUMNS}, **group}
        lines.append((products, files, json.dumps(pair, ensure_ascii=False) + "\n"))
    kept = [(files, line) for products, files, line in lines if not products & held]
    made.pairs, made.held_back = len(kept), len(lines) - len(kept)
    used = {name for files, _ in kept for name in files}
    for name in {name for _, files, _ in lines for name in files} - used:
        (out / name).unlink()
    if not kept:
        raise DatasetError(
            f"{name} gives no pair ({made.other_splits} rows are in other splits than {TRAIN}, {made.held_back} show "
            f"their products, {len(made.left_out)} cannot be used: {some(made.left_out, 2)})"
        )
    write_text_atomically(out / PAIRS, "".join(line for _, line in kept))
    return made


def _rows(source: HubSource) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Number, split and cells of each row; rows of the only split that is read are for training."""
    number = 0
    for batch in source.batches():
        for row in batch.table.to_pylist():
            number += 1
            yield number, str(row.get(SPLIT_COLUMN) or TRAIN), row


def _images(row: dict[str, Any]) -> list[tuple[bytes, str]]:
    """Bytes and kind of the images of a row; ValueError where one cannot be used."""
    cells = row.get("images", row.get("image"))
    cells = cells if isinstance(cells, list) else [cells]
    found = []
    for cell in cells:
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            raise ValueError("'images' holds no bytes")
        try:
            kind, _ = recognized(data)
        except Rejection as error:
            raise ValueError(f"an image cannot be used ({error})") from None
        found.append((data, kind.lower()))
    if not found:
        raise ValueError("'images' is empty")
    return found


def _written(data: bytes, kind: str, out: Path) -> str:
    """Name of an image beside the pairs."""
    name = f"{FETCHED}/{hashlib.sha256(data).hexdigest()}.{kind}"
    if not (out / name).is_file():
        (out / FETCHED).mkdir(parents=True, exist_ok=True)
        with atomic_file(out / name) as file:
            file.write(data)
    return name
