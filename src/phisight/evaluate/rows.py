"""The rows that are evaluated: key, image, true fields."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phisight.core import dataset_folder
from phisight.core.dataset_folder import DatasetCard, Split
from phisight.core.errors import DatasetError, EmptyFieldError, EvaluationError, TaskError, some
from phisight.core.seeding import hashed_fraction
from phisight.core.task import FieldValue, Task
from phisight.data.dataset.folder import image_limits
from phisight.data.dataset.image_groups import images_of, join_images
from phisight.data.images.decode import ImageLimits
from phisight.data.images.recorded import RecordedImage

_OPTIONAL = (dataset_folder.SHA256, dataset_folder.GROUP, dataset_folder.WIDTH, dataset_folder.HEIGHT)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvalRow:
    """One example with its truth."""

    key: str
    """Names the product; keys may repeat (several images of one product)."""
    image: Path
    """The image, or the first of several."""
    truth: Mapping[str, FieldValue]
    """The task's fields, typed."""
    expected: str
    """The answer as the task writes it."""
    content: str = ""
    """Rows of equal content show the same image (its SHA-256); empty: the path says it."""
    more: tuple[Path, ...] = ()
    """Further images of the product, shown with the first."""
    group: str = ""
    """Rows of one group (product, near-duplicate images) are one observation; empty: the key says it."""
    sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of its images in pixels; empty: their files say it."""
    hashes: tuple[str, ...] = ()
    """SHA-256 of each image as the table records it; empty: it records none."""
    limits: ImageLimits = field(default_factory=ImageLimits)
    """What its images may be: the limits of the build."""

    @property
    def images(self) -> tuple[Path, ...]:
        """All its images."""
        return (self.image, *self.more)

    @property
    def recorded(self) -> tuple[RecordedImage, ...]:
        """All its images, each with the hash that the table records."""
        hashes = self.hashes or ("",) * len(self.images)
        return tuple(
            RecordedImage(path, sha256, self.key, self.limits) for path, sha256 in zip(self.images, hashes, strict=True)
        )


@dataclass(frozen=True)
class EvalRows:
    """Rows of a split, how many were left out for which reason, and what the training split says."""

    rows: list[EvalRow]
    left_out: Mapping[str, int] = field(default_factory=dict)
    medians: Mapping[str, float] = field(default_factory=dict)
    """Median of each number field over the training split; empty without one."""


def read_rows(
    folder: Path, task: Task, split: Split = "test", *, limit: int | None = None, seed: int = 0, images: int = 1
) -> EvalRows:
    """Rows of a split of a data set folder.

    A row whose truth is empty, not finite (NaN price) or cannot be written as an answer is left out, counted and
    logged. ``limit`` takes a sample that depends on keys and seed alone. With more than one of ``images`` the rows of
    a key become one, with as many of their images.

    Raises:
        DatasetError: The folder is no data set folder.
        TaskError: The table lacks a field of the task.
        EvaluationError: No row is left.
    """
    card = DatasetCard.read(folder)
    key, limits = card.key, image_limits(card)
    path = folder / dataset_folder.METADATA
    if not path.is_file():
        raise DatasetError(f"{folder} has no {dataset_folder.METADATA}; build the data set again")
    with _readable(path):
        names = pq.read_schema(path).names
    absent = [name for name in task.names if name not in names]
    if absent:
        raise TaskError(f"the task asks for {', '.join(absent)} but {path} has the columns {', '.join(names)}")
    optional = [name for name in _OPTIONAL if name in names]
    columns = list(dict.fromkeys([key, dataset_folder.FILE_NAME, dataset_folder.SPLIT, *task.names, *optional]))
    with _readable(path):
        table = pq.read_table(path, columns=columns, filters=[(dataset_folder.SPLIT, "=", split)])
    rows, left_out = [], Counter[str]()
    for line in join_images(table.to_pylist(), key, task.names, images).rows:
        try:
            truth, expected = task.values(line), task.render(line)
        except (EmptyFieldError, TaskError) as error:
            left_out[str(error).split(";")[0]] += 1
            continue
        first, *more = [folder / one[dataset_folder.FILE_NAME] for one in images_of(line)]
        hashes = tuple(str(one.get(dataset_folder.SHA256) or "") for one in images_of(line))
        content, group = " ".join(hashes).strip(), str(line.get(dataset_folder.GROUP) or line[key])
        rows.append(
            EvalRow(str(line[key]), first, truth, expected, content, tuple(more), group, _sizes(line), hashes, limits)
        )
    if left_out:
        _LOG.warning("%d of %d rows are left out: %s", left_out.total(), table.num_rows, dict(left_out))
    if not table.num_rows:
        raise EvaluationError(_empty(path, split))
    if not rows:
        raise EvaluationError(
            f"the split {split!r} of {folder} has {table.num_rows} rows, none of them usable: "
            f"{some(left_out, 2)}; choose another split (--split) or correct the table and build it again"
        )
    return EvalRows([rows[row] for row in sample_of(rows, limit, seed)], dict(left_out), _medians(path, task))


def _empty(path: Path, split: str) -> str:
    """What to say of a split without a row: those that there are, and the option that chooses one."""
    counts = Counter(pq.read_table(path, columns=[dataset_folder.SPLIT])[dataset_folder.SPLIT].to_pylist())
    found = ", ".join(f"{name} {counts[name]}" for name in dataset_folder.SPLITS if counts[name]) or "no row at all"
    return (
        f"the split {split!r} of {path.parent} is empty: the data set has {found}; "
        "choose one of these with --split, or build it from more products"
    )


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a damaged table raises into a DatasetError that names it."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise DatasetError(f"{path} cannot be read ({reason}); build the data set again") from error


def _sizes(line: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    found = [(one.get(dataset_folder.WIDTH), one.get(dataset_folder.HEIGHT)) for one in images_of(line)]
    return tuple((int(width), int(height)) for width, height in found if width and height)


def _medians(path: Path, task: Task) -> dict[str, float]:
    """Median of each number field over the training split of a table."""
    names = task.of_kind("number")
    train = pq.read_table(path, columns=names, filters=[(dataset_folder.SPLIT, "=", "train")]) if names else None
    medians = {}
    for name in names:
        values = []
        for value in train[name].to_pylist() if train is not None else ():
            with contextlib.suppress(TypeError, ValueError):
                values.append(float(value))
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            medians[name] = float(np.median(finite))
    return medians


def sample_of(rows: Sequence[EvalRow], limit: int | None, seed: int) -> list[int]:
    """Indices of at most ``limit`` rows (all without one), in order; depends on keys, indices and seed alone."""
    if limit is None or limit >= len(rows):
        return list(range(len(rows)))
    order = sorted(range(len(rows)), key=lambda row: hashed_fraction(seed, "sample", rows[row].key, row))
    return sorted(order[:limit])
