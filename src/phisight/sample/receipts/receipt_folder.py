"""Receipts drawn into a data set folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from phisight.core.dataset_folder import FILE_NAME, GROUP, SPLIT
from phisight.sample.card import SampleCard
from phisight.sample.catalogue.table_rows import ADDED, file_name, split_of
from phisight.sample.drawn_folder import Layout, make_folder, stored_image
from phisight.sample.receipts.receipt_content import TASK, receipt_of
from phisight.sample.receipts.receipt_image import draw_receipt, encoded

PRESET = "receipts"
KEY = "receipt"
TABLE = pa.schema(
    [
        (FILE_NAME, pa.string()),
        (KEY, pa.string()),
        ("shop", pa.string()),
        ("day", pa.date32()),
        ("items", pa.list_(pa.string())),
        ("pieces", pa.int64()),
        ("total", pa.float64()),
        ("tip", pa.float64()),
        ("card", pa.bool_()),
        ("note", pa.string()),
        *ADDED,
    ]
)


class _Job(NamedTuple):
    seed: int
    row: int
    folder: Path


def make_receipts(
    rows: int,
    out: Path,
    *,
    seed: int,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SampleCard:
    """Draw ``rows`` receipts into the data set folder ``out``: a field of every kind, and a tip that may be absent.

    The folder appears whole or not at all. SampleError when ``rows`` or ``workers`` is below 1, or when ``out`` holds
    something (``overwrite`` replaces an earlier sample, never anything else).
    """
    return make_folder(
        Layout(PRESET, TASK, KEY, TABLE),
        _draw,
        lambda folder: (_Job(seed, row, folder) for row in range(rows)),
        rows=rows,
        out=out,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def _draw(job: _Job) -> dict[str, Any]:
    """One row, its image on disk."""
    receipt, key = receipt_of(job.seed, job.row), f"R-{job.row:07d}"
    image = draw_receipt(receipt, job.seed, job.row)
    content, name = encoded(image), file_name(job.row, key)
    return {
        **stored_image(job.folder, name, content, image),
        KEY: key,
        **receipt.fields(),
        SPLIT: split_of(job.seed, key),
        GROUP: key,
    }
