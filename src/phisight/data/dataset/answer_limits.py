"""What answers may hold: categories of the training rows, and how their numbers look.

RUN/limits.json records it when a run begins: {"format", "categories", "ranges", "decimals"}. Later answers of the run
are held to that, whatever has become of the data set.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import DatasetError, RunError
from phisight.core.migrations import require_format
from phisight.core.read_files import read_object
from phisight.core.run_folder import LIMITS, write_json
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder

FORMAT = "phisight-limits/1"


@dataclass(frozen=True)
class AnswerLimits:
    """Values that answers are held to."""

    categories: dict[str, list[str]] = field(default_factory=dict)
    """Values of each category field, as answers write them."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Least and largest finite value of each number field."""
    decimals: dict[str, int] = field(default_factory=dict)
    """Most digits after the point of each number field, as answers write it; empty where nobody counted them."""

    @classmethod
    def of_training(cls, task: Task, data: Sequence[Path]) -> Self:
        """Those of the first of ``data`` that has a training split with the task's categories.

        DatasetError where there is none, unless the task has no category and so can do without.
        """
        train = _training_rows(task, data)
        numbers = _numbers(task, train)
        ranges = {name: (min(values), max(values)) for name, values in numbers.items()}
        decimals = {name: max(_decimals(task, name, value) for value in values) for name, values in numbers.items()}
        return cls(_categories(task, train), ranges, decimals)

    def without_decimals(self) -> Self:
        """As runs are held to that did not record how many digits stand after the point."""
        return replace(self, decimals={})

    def write(self, run: Path) -> None:
        """Record them with a run."""
        write_json(run / LIMITS, {"format": FORMAT, **asdict(self)})

    @classmethod
    def recorded(cls, run: Path) -> Self | None:
        """Those that a run recorded; None where it recorded none. RunError where the file cannot be used."""
        path = run / LIMITS
        if not path.is_file():
            return None
        try:
            values = read_object(path)
            require_format(values.pop("format", None), FORMAT, path, RunError)
            values["ranges"] = {name: (float(low), float(high)) for name, (low, high) in values["ranges"].items()}
            return cls(**values)
        except RunError:
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise RunError(f"{path} cannot be used ({reason}); restore it, or delete it to count anew") from error


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


def _numbers(task: Task, train: pa.Table | None) -> dict[str, list[float]]:
    """The different finite values of each number field in a training split, of whatever type its column is."""
    found = {}
    for name in task.of_kind("number"):
        values = []
        for value in train[name].unique().to_pylist() if train is not None and name in train.column_names else ():
            with contextlib.suppress(TypeError, ValueError):
                values.append(float(value))
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            found[name] = finite
    return found


def _decimals(task: Task, name: str, value: float) -> int:
    return len(task.fields[name].write(value).partition(".")[2])
