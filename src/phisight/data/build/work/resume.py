"""Go on from what is there: an interrupted build's logs and a finished folder's own table.

A finished folder needs no hidden file to be repeated: its table names every picture that was asked for and its rejects
every one that was refused, so a second build asks only for what is new or may have healed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from phisight.core.dataset_folder import CARD, METADATA, REJECTS
from phisight.data.build.finish.table import ADDED, TOKEN, image_of
from phisight.data.build.work.journal import Journal
from phisight.data.build.work.worklog import entry
from phisight.data.images.decode import ImageLimits
from phisight.data.images.rejection import KINDS, Refusal, StoredImage


def resume(folder: Path, journal: Journal, limits: ImageLimits) -> None:
    """Bring the journal up to date, and drop from it what is to be asked again."""
    journal.absorb_logs()
    journal.settle(entry(token, outcome) for token, outcome in _finished(folder, limits))
    journal.forget(folder, lambda refusal: KINDS[refusal.kind][0] == "later")


def _finished(folder: Path, limits: ImageLimits) -> Iterator[tuple[str, StoredImage | Refusal]]:
    """Outcomes that a finished folder knows, where the limits of today would not change them."""
    if not (folder / CARD).is_file() or not (folder / METADATA).is_file():
        return
    try:
        then = json.loads((folder / CARD).read_text(encoding="utf-8"))["build"]["limits"]
        with pq.ParquetFile(folder / METADATA) as file:
            for batch in file.iter_batches(batch_size=8192, columns=ADDED.names):
                for row in batch.to_pylist():
                    image = image_of(row)
                    if row[TOKEN] and _within(image, limits):
                        yield row[TOKEN], image
        lines = (folder / REJECTS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, KeyError):
        return  # not built here, or damaged: everything is asked for
    same = then == asdict(limits)
    for line in map(json.loads, lines):
        heals = KINDS[line["kind"]][0]
        if "token" in line and (heals == "never" or (heals == "limits" and same)):
            yield line["token"], Refusal(line["kind"], line["reason"])


def _within(image: StoredImage, limits: ImageLimits) -> bool:
    return (
        image.size <= limits.max_bytes
        and image.width * image.height <= limits.max_pixels
        and min(image.width, image.height) >= limits.min_side
    )
