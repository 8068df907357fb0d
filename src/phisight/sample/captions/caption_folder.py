"""Captioned drawings in a data set folder."""

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
from phisight.core.seeding import hashed_fraction
from phisight.sample.captions.caption_content import TASK, captioned
from phisight.sample.card import SampleCard
from phisight.sample.catalogue.presets import SampleSettings
from phisight.sample.catalogue.table_rows import ADDED, file_name
from phisight.sample.output_folder import new_folder
from phisight.sample.parallel import in_order
from phisight.sample.render import draw_image, encode

PRESET = "captions"
KEY = "drawing"
TABLE = pa.schema(
    [
        (FILE_NAME, pa.string()),
        (KEY, pa.string()),
        ("heading", pa.string()),
        ("name", pa.string()),
        ("material", pa.string()),
        ("first", pa.int64()),
        ("second", pa.int64()),
        ("third", pa.int64()),
        *ADDED,
    ]
)
_MILD = SampleSettings(smallest=128, largest=224, elongation=1.3, busy=False)
_BUSY = SampleSettings(smallest=128, largest=352, elongation=1.8, quality=80)
HELD_OUT = 0.01
"""Share of the rows in the validation split, and in the test split."""


class _Job(NamedTuple):
    seed: int
    row: int
    folder: Path
    held_out: float


def make_captions(
    rows: int,
    out: Path,
    *,
    seed: int,
    workers: int = 1,
    overwrite: bool = False,
    held_out: float = HELD_OUT,
    progress: Callable[[int], None] | None = None,
) -> SampleCard:
    """Draw ``rows`` products of all kinds, each with its caption, into the data set folder ``out``.

    The test split gets the share ``held_out`` of the rows, the validation split the same, as far as any are left.
    The folder appears whole or not at all. SampleError when ``rows`` or ``workers`` is below 1, or when ``out`` holds
    something (``overwrite`` replaces an earlier sample, never anything else).
    """
    if rows < 1 or workers < 1:
        raise SampleError(f"rows and workers must be at least 1; got {rows} rows and {workers} workers")
    table: list[dict[str, Any]] = []
    with new_folder(out, overwrite) as folder:
        for line in in_order(_draw, (_Job(seed, row, folder, held_out) for row in range(rows)), workers):
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
    drawing, key = captioned(job.seed, job.row), f"D-{job.row:07d}"
    settings = _BUSY if drawing.busy else _MILD
    image = draw_image(job.seed, settings, drawing.product, job.row, drawing.color)
    content, name = encode(image, settings), file_name(job.row, key)
    path = job.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    part = hashed_fraction(job.seed, "caption split", key)
    return {
        FILE_NAME: name,
        KEY: key,
        **drawing.values(),
        SPLIT: "test" if part < job.held_out else "validation" if part < 2 * job.held_out else "train",
        GROUP: key,
        SHA256: hashlib.sha256(content).hexdigest(),
        WIDTH: image.width,
        HEIGHT: image.height,
    }
