"""A data set folder of drawn images, one row each: what receipts, captioned drawings and foreign images share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from phisight.core.dataset_folder import FILE_NAME, HEIGHT, METADATA, SHA256, SPLIT, SPLITS, WIDTH, DatasetCard
from phisight.core.errors import SampleError
from phisight.core.task import Task
from phisight.sample.card import SampleCard
from phisight.sample.output_folder import new_folder
from phisight.sample.parallel import in_order

_Job = TypeVar("_Job")


class Layout(NamedTuple):
    """What the rows of a folder are."""

    preset: str
    task: Task
    key: str
    """Column that names a row."""
    table: pa.Schema
    about: Mapping[str, Any] = MappingProxyType({})
    """What the cards say of it besides."""


def make_folder(
    layout: Layout,
    draw: Callable[[_Job], dict[str, Any]],
    jobs: Callable[[Path], Iterable[_Job]],
    *,
    rows: int,
    out: Path,
    seed: int,
    workers: int,
    overwrite: bool,
    progress: Callable[[int], None] | None,
) -> SampleCard:
    """Draw the jobs of a folder in order, then write its table and cards.

    The folder appears whole or not at all. SampleError when ``rows`` or ``workers`` is below 1, or when ``out`` holds
    something (``overwrite`` replaces an earlier sample, never anything else).
    """
    if rows < 1 or workers < 1:
        raise SampleError(f"rows and workers must be at least 1; got {rows} rows and {workers} workers")
    table: list[dict[str, Any]] = []
    with new_folder(out, overwrite) as folder:
        for line in in_order(draw, jobs(folder), workers):
            table.append(line)
            if progress:
                progress(1)
        pq.write_table(pa.Table.from_pylist(table, schema=layout.table), folder / METADATA)
        splits = Counter(line[SPLIT] for line in table)
        DatasetCard(
            task=layout.task,
            key=layout.key,
            rows=rows,
            splits={split: splits[split] for split in SPLITS},
            source={"kind": "sample", "preset": layout.preset, "seed": seed, "rows": rows, **layout.about},
        ).write(folder)
        card = SampleCard(
            rows=rows,
            designs=rows,
            seed=seed,
            settings={"preset": layout.preset, **layout.about},
            price_rule={},
            best_price_median_ape=None,
        )
        card.write(folder)
    return card


def stored_image(folder: Path, name: str, content: bytes, image: Image.Image) -> dict[str, Any]:
    """Write an image file below the folder; returns the columns that describe it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {
        FILE_NAME: name,
        SHA256: hashlib.sha256(content).hexdigest(),
        WIDTH: image.width,
        HEIGHT: image.height,
    }
