"""Captioned drawings in a data set folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from phisight.core.dataset_folder import FILE_NAME, GROUP, SPLIT
from phisight.core.seeding import hashed_fraction
from phisight.sample.captions.caption_content import TASK, captioned
from phisight.sample.card import SampleCard
from phisight.sample.catalogue.presets import SampleSettings
from phisight.sample.catalogue.table_rows import ADDED, file_name
from phisight.sample.drawn_folder import Layout, make_folder, stored_image
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
    return make_folder(
        Layout(PRESET, TASK, KEY, TABLE),
        _draw,
        lambda folder: (_Job(seed, row, folder, held_out) for row in range(rows)),
        rows=rows,
        out=out,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def _draw(job: _Job) -> dict[str, Any]:
    """One row, its image on disk."""
    drawing, key = captioned(job.seed, job.row), f"D-{job.row:07d}"
    settings = _BUSY if drawing.busy else _MILD
    image = draw_image(job.seed, settings, drawing.product, job.row, drawing.color)
    content, name = encode(image, settings), file_name(job.row, key)
    part = hashed_fraction(job.seed, "caption split", key)
    return {
        **stored_image(job.folder, name, content, image),
        KEY: key,
        **drawing.values(),
        SPLIT: "test" if part < job.held_out else "validation" if part < 2 * job.held_out else "train",
        GROUP: key,
    }
