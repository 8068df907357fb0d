"""What answers may hold: categories of the training rows, and how their numbers look.

RUN/limits.json records it when a run begins: {"format", "categories", "ranges", "decimals"}. Later answers of the run
are held to that, whatever has become of the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import DatasetError, RunError
from phisight.core.kinds import FieldValue, Known
from phisight.core.kinds.kind import known_values
from phisight.core.migrations import require_format
from phisight.core.read_files import read_object
from phisight.core.run_folder import LIMITS, write_json
from phisight.core.task import Task
from phisight.core.task_field import TaskField
from phisight.data.dataset.folder import DatasetFolder

FORMAT = "phisight-limits/1"
MOST_DIGITS = 100
"""After the point; a number has fewer."""


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
        columns = {name: train[name] for name in train.column_names} if train is not None else {}
        known = {
            name: task.fields[name].rules.known(_values(task.fields[name], column), task.fields[name])
            for name, column in columns.items()
        }
        return cls(
            {name: list(one.values) for name, one in known.items() if one.values},
            {name: (one.low, one.high) for name, one in known.items() if one.low is not None and one.high is not None},
            {name: one.decimals for name, one in known.items() if one.decimals is not None},
        )

    def known(self) -> dict[str, Known]:
        """What they say of each field."""
        return known_values(self.categories, self.ranges, self.decimals)

    def without_decimals(self) -> Self:
        """As runs are held to that did not record how many digits stand after the point."""
        return replace(self, decimals={})

    def require_types(self) -> None:
        """TypeError for values of other types than their fields say, as a damaged file has them."""
        texts = all(
            isinstance(values, list) and all(isinstance(one, str) for one in values)
            for values in self.categories.values()
        )
        digits = all(type(count) is int and 0 <= count <= MOST_DIGITS for count in self.decimals.values())
        if not texts or not digits or not all(low <= high for low, high in self.ranges.values()):
            raise TypeError("categories are lists of texts, ranges are pairs, decimals are counts of digits")

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
            limits = cls(**values)
            limits.require_types()
            return limits
        except RunError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = " ".join(str(error).split())[:160]
            raise RunError(f"{path} cannot be used ({reason}); restore it, or delete it to count anew") from error


def _training_rows(task: Task, data: Sequence[Path]) -> pa.Table | None:
    """The training split of the first of ``data`` that has one with the task's categories and numbers.

    None where there is none and the task has no category, which would need it.
    """
    needed = [name for name in task.names if task.fields[name].rules.needs_values(task.fields[name])]
    names = [name for name in task.names if task.fields[name].rules.learns]
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


def _values(field: TaskField, column: pa.ChunkedArray) -> list[FieldValue]:
    """Different values of a column, typed; cells that hold none are left out."""
    cells: list[Any] = column.to_pylist() if pa.types.is_list(column.type) else column.unique().to_pylist()
    found: dict[FieldValue, None] = {}
    for cell in cells:
        try:
            value = field.typed(cell)
        except ValueError:
            continue
        if value is not None:
            found[value] = None
    return list(found)
