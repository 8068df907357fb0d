"""What answers may hold: categories of the training rows, and the least and largest of their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import DatasetError
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder


@dataclass(frozen=True)
class AnswerLimits:
    """Values that answers are held to."""

    categories: dict[str, list[str]] = field(default_factory=dict)
    """Values of each category field, as answers write them."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Least and largest finite value of each number field."""

    @classmethod
    def of_training(cls, task: Task, data: Sequence[Path]) -> AnswerLimits:
        """Those of the first of ``data`` that has a training split with the task's categories.

        DatasetError where there is none, unless the task has no category and so can do without.
        """
        train = _training_rows(task, data)
        return cls(_categories(task, train), _ranges(task, train))


def _training_rows(task: Task, data: Sequence[Path]) -> pa.Table | None:
    """The training split of the first of ``data`` that has one with the task's categories and numbers.

    None where there is none and the task has no category, which would need it.
    """
    needed = task.of_kind("category")
    names = [*needed, *task.of_kind("number")]
    tried = []
    for path in dict.fromkeys(data):
        try:
            table = DatasetFolder.open(path).table
        except DatasetError as error:
            tried.append(str(error))
            continue
        train = table.filter(pc.equal(table[SPLIT], "train"))
        if train.num_rows and all(name in train.column_names for name in needed):
            return train.select([name for name in names if name in train.column_names])
        tried.append(f"{path} has no training split with {', '.join(needed)}")
    if not needed:
        return None
    raise DatasetError(f"{'; '.join(tried)}; name a data set that has one")


def _categories(task: Task, train: pa.Table | None) -> dict[str, list[str]]:
    """Values of each category field in a training split, as answers write them."""
    if train is None:
        return {}
    found = {name: train[name].unique().to_pylist() for name in task.of_kind("category")}
    return {name: sorted({" ".join(str(value).split()) for value in values}) for name, values in found.items()}


def _ranges(task: Task, train: pa.Table | None) -> dict[str, tuple[float, float]]:
    """Least and largest finite value of each number field in a training split."""
    ranges = {}
    for name in task.of_kind("number"):
        if train is None or name not in train.column_names or not _is_number(train[name].type):
            continue
        values = train[name].drop_null().to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            ranges[name] = float(values.min()), float(values.max())
    return ranges


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
