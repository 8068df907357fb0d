"""The rows that are evaluated: key, image, true fields."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from phisight.core import dataset_folder
from phisight.core.dataset_folder import DatasetCard, Split
from phisight.core.errors import DatasetError, EmptyFieldError, EvaluationError, TaskError
from phisight.core.seeding import hashed_fraction
from phisight.core.task import FieldValue, Task
from phisight.data.dataset.image_groups import images_of, join_images

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

    @property
    def images(self) -> tuple[Path, ...]:
        """All its images."""
        return (self.image, *self.more)


@dataclass(frozen=True)
class EvalRows:
    """Rows of a split, and how many were left out for which reason."""

    rows: list[EvalRow]
    left_out: Mapping[str, int] = field(default_factory=dict)


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
    key = DatasetCard.read(folder).key
    path = folder / dataset_folder.METADATA
    if not path.is_file():
        raise DatasetError(f"{folder} has no {dataset_folder.METADATA}; build the data set again")
    names = pq.read_schema(path).names
    absent = [name for name in task.names if name not in names]
    if absent:
        raise TaskError(f"the task asks for {', '.join(absent)} but {path} has the columns {', '.join(names)}")
    optional = [name for name in (dataset_folder.SHA256,) if name in names]
    columns = list(dict.fromkeys([key, dataset_folder.FILE_NAME, dataset_folder.SPLIT, *task.names, *optional]))
    table = pq.read_table(path, columns=columns, filters=[(dataset_folder.SPLIT, "=", split)])
    rows, left_out = [], Counter[str]()
    for line in join_images(table.to_pylist(), key, task.names, images).rows:
        try:
            truth, expected = task.values(line), task.render(line)
        except (EmptyFieldError, TaskError) as error:
            left_out[str(error).split(";")[0]] += 1
            continue
        first, *more = [folder / one[dataset_folder.FILE_NAME] for one in images_of(line)]
        content = " ".join(one.get(dataset_folder.SHA256) or "" for one in images_of(line)).strip()
        rows.append(EvalRow(str(line[key]), first, truth, expected, content, tuple(more)))
    if left_out:
        _LOG.warning("%d of %d rows are left out: %s", left_out.total(), table.num_rows, dict(left_out))
    if not rows:
        raise EvaluationError(
            f"the split {split!r} of {folder} has {table.num_rows} rows, none of them usable; "
            "choose another split or build the data set with one"
        )
    return EvalRows([rows[row] for row in sample_of(rows, limit, seed)], dict(left_out))


def sample_of(rows: Sequence[EvalRow], limit: int | None, seed: int) -> list[int]:
    """Indices of at most ``limit`` rows (all without one), in order; depends on keys, indices and seed alone."""
    if limit is None or limit >= len(rows):
        return list(range(len(rows)))
    order = sorted(range(len(rows)), key=lambda row: hashed_fraction(seed, "sample", rows[row].key, row))
    return sorted(order[:limit])
