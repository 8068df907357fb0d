"""Foreign images drawn into a data set folder: what they show has nothing to do with a task.

``TRAINED`` are the kinds that training draws by default; ``HELD_OUT`` are kept for evaluation, so that a model is
judged on kinds of images it was never told to refuse.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from phisight.core.dataset_folder import FILE_NAME, GROUP, SPLIT
from phisight.core.errors import SampleError, nearest, some
from phisight.core.seeding import named_seed
from phisight.core.task import Task
from phisight.core.task_field import TaskField
from phisight.sample.card import SampleCard
from phisight.sample.catalogue.table_rows import ADDED, file_name, split_of
from phisight.sample.drawn_folder import Layout, make_folder, stored_image
from phisight.sample.foreign import documents, objects, sights, surfaces

Draw = Callable[[np.random.Generator, int, int], Image.Image]

TRAINED: dict[str, Draw] = {
    "blank": surfaces.blank,
    "noise": surfaces.noise,
    "cut": surfaces.cut,
    "shapes": surfaces.shapes,
    "landscape": sights.landscape,
    "portrait": sights.portrait,
    "page": documents.page,
    "chart": documents.chart,
    "thing": objects.thing,
    "sign": objects.sign,
    "jumbled": objects.jumbled,
    "scattered": objects.scattered,
}
"""Kinds that training draws by default."""
HELD_OUT: dict[str, Draw] = {
    "gradient": surfaces.gradient,
    "map": sights.city_map,
    "night_sky": sights.night_sky,
    "screen": documents.screen,
    "bar_code": documents.bar_code,
}
"""Kinds that evaluation draws by default; training does not."""
KINDS: dict[str, Draw] = {**TRAINED, **HELD_OUT}

PRESET = "foreign"
KEY, KIND = "name", "kind"
TASK = Task(prompt="What kind of image is this?", answer="Kind: {kind}", fields={KIND: TaskField(kind="category")})
TABLE = pa.schema([(FILE_NAME, pa.string()), (KEY, pa.string()), (KIND, pa.string()), *ADDED])
SMALLEST, LARGEST = 160, 448
"""Sides of an image in pixels, where no sizes are given."""


class _Job(NamedTuple):
    seed: int
    row: int
    kind: str
    size: tuple[int, int] | None
    folder: Path


def make_foreign(
    rows: int,
    out: Path,
    *,
    seed: int,
    kinds: Sequence[str] = (),
    sizes: Sequence[tuple[int, int]] = (),
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SampleCard:
    """Draw ``rows`` foreign images into the data set folder ``out``, the ``kinds`` (all without any) in turn.

    ``sizes`` are widths and heights in pixels to draw from. The folder appears whole or not at all.

    Raises:
        SampleError: ``rows`` or ``workers`` is below 1, a kind is not known, or ``out`` holds something (``overwrite``
            replaces an earlier sample, never anything else).
    """
    names = known_kinds(kinds)
    counts = dict(Counter(names[row % len(names)] for row in range(rows)))
    return make_folder(
        Layout(PRESET, TASK, KEY, TABLE, {"kinds": counts}),
        _draw,
        lambda folder: (
            _Job(seed, row, names[row % len(names)], _size(seed, row, sizes), folder) for row in range(rows)
        ),
        rows=rows,
        out=out,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def known_kinds(kinds: Sequence[str]) -> list[str]:
    """The kinds, each once; all of them where none is named. SampleError names the nearest to an unknown one."""
    for kind in kinds:
        if kind not in KINDS:
            near = nearest(kind, KINDS)
            meant = f", did you mean {near!r}?" if near else ";"
            raise SampleError(f"no kind of foreign image {kind!r}{meant} kinds are {some(KINDS, 20)}")
    return list(dict.fromkeys(kinds)) or list(KINDS)


def _size(seed: int, row: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    return sizes[named_seed(seed, "foreign size", row) % len(sizes)] if sizes else None


def _draw(job: _Job) -> dict[str, Any]:
    """One row, its image on disk."""
    rng, key = np.random.default_rng(named_seed(job.seed, "foreign", job.kind, job.row)), f"F-{job.row:07d}"
    width, height = job.size or tuple(int(side) for side in rng.integers(SMALLEST, LARGEST + 1, 2))
    image = KINDS[job.kind](rng, width, height)
    stored = stored_image(job.folder, file_name(job.row, key), _encoded(image), image)
    return stored | {KEY: key, KIND: job.kind, SPLIT: split_of(job.seed, key), GROUP: key}


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
