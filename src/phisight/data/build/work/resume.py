"""Continue from what is there: an interrupted build's logs and a finished folder's own table.

A finished folder needs no hidden file to be repeated: its table names every image that was downloaded and its rejects
every one that was rejected, so a second build downloads only what is new or what failed for a transient reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from phisight.core.dataset_folder import CARD, METADATA, REJECTS
from phisight.core.read_files import read_object
from phisight.data.build.plan.table_columns import ADDED, TOKEN, image_of
from phisight.data.build.work.journal import Journal
from phisight.data.build.work.worklog import entry
from phisight.data.images.decode import ImageLimits
from phisight.data.images.rejection import KINDS, Rejection, StoredImage


def resume(folder: Path, journal: Journal, limits: ImageLimits) -> None:
    """Bring the journal up to date, and drop from it what is to be downloaded again."""
    journal.read_logs()
    journal.record(entry(token, result) for token, result in _results_of_finished(folder, limits))
    journal.forget(folder, lambda rejection: KINDS[rejection.kind][0] == "transient")


def _results_of_finished(folder: Path, limits: ImageLimits) -> Iterator[tuple[str, StoredImage | Rejection]]:
    """Results in a finished folder that today's limits do not change."""
    if not (folder / CARD).is_file() or not (folder / METADATA).is_file():
        return
    try:
        then = read_object(folder / CARD)["build"]["limits"]
        with pq.ParquetFile(folder / METADATA) as file:
            for batch in file.iter_batches(batch_size=8192, columns=ADDED.names):
                for row in batch.to_pylist():
                    image = image_of(row)
                    if row[TOKEN] and _within(image, limits):
                        yield row[TOKEN], image
        lines = (folder / REJECTS).read_text(encoding="utf-8").splitlines()
        same = then == asdict(limits)
        for line in map(json.loads, lines):
            persistence = KINDS[line["kind"]][0]
            if "token" in line and (persistence == "permanent" or (persistence == "limits" and same)):
                yield str(line["token"]), Rejection(line["kind"], str(line["reason"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # not built here, or damaged: everything else is downloaded


def _within(image: StoredImage, limits: ImageLimits) -> bool:
    return (
        image.size <= limits.max_bytes
        and image.width * image.height <= limits.max_pixels
        and min(image.width, image.height) >= limits.min_side
    )
