"""Receipts drawn into a data set folder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core.dataset_folder import FILE_NAME, GROUP, HEIGHT, METADATA, SHA256, SPLIT, SPLITS, WIDTH, DatasetCard
from phisight.core.errors import SampleError
from phisight.sample.card import SampleCard
from phisight.sample.catalogue.table_rows import ADDED, file_name, split_of
from phisight.sample.output_folder import new_folder
from phisight.sample.parallel import in_order
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
    if rows < 1 or workers < 1:
        raise SampleError(f"rows and workers must be at least 1; got {rows} rows and {workers} workers")
    table: list[dict[str, Any]] = []
    with new_folder(out, overwrite) as folder:
        for line in in_order(_draw, (_Job(seed, row, folder) for row in range(rows)), workers):
            table.append(line)
            if progress:
                progress(1)
        pq.write_table(pa.Table.from_pylist(table, schema=TABLE), folder / METADATA)
        splits = Counter(line[SPLIT] for line in table)
        DatasetCard(
            task=TASK,
            key=KEY,
            rows=rows,
            splits={split: splits[split] for split in SPLITS},
            source={"kind": "sample", "preset": PRESET, "seed": seed, "rows": rows},
        ).write(folder)
        card = SampleCard(
            rows=rows,
            designs=rows,
            seed=seed,
            settings={"preset": PRESET},
            price_rule={},
            best_price_median_ape=None,
        )
        card.write(folder)
    return card


def _draw(job: _Job) -> dict[str, Any]:
    """One row, its image on disk."""
    receipt, key = receipt_of(job.seed, job.row), f"R-{job.row:07d}"
    image = draw_receipt(receipt, job.seed, job.row)
    content, name = encoded(image), file_name(job.row, key)
    path = job.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {
        FILE_NAME: name,
        KEY: key,
        **receipt.fields(),
        SPLIT: split_of(job.seed, key),
        GROUP: key,
        SHA256: hashlib.sha256(content).hexdigest(),
        WIDTH: image.width,
        HEIGHT: image.height,
    }
