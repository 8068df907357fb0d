"""Arrow columns of the values of a field."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from phisight.core.errors import EmptyFieldError
from phisight.core.kinds import FieldValue
from phisight.core.task_field import TaskField
from phisight.data.sources.arrow import column_of, numbers_of

_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "double": pa.float64(),
    "int64": pa.int64(),
    "date32": pa.date32(),
    "bool": pa.bool_(),
    "list<string>": pa.list_(pa.string()),
}
_FIRST_DAY = datetime.date(1970, 1, 1).toordinal()


def arrow_type(field: TaskField) -> pa.DataType:
    """The type of a column of the field's values."""
    return _TYPES[field.rules.storage]


def typed_column(cells: Sequence[Any], field: TaskField) -> pa.Array:
    """A column of the field's values; null where a cell holds none."""
    values = [_value(cell, field) for cell in cells]
    kind = field.rules.storage
    if kind in ("double", "int64"):
        return numbers_of(values, _TYPES[kind])  # type: ignore[arg-type]
    if kind == "bool":
        return numbers_of([None if one is None else int(one) for one in values], pa.int64()).cast(pa.bool_())  # type: ignore[arg-type]
    if kind == "date32":
        days = [one.toordinal() - _FIRST_DAY if isinstance(one, datetime.date) else None for one in values]
        return numbers_of(days, pa.int32()).cast(pa.date32())
    if kind == "list<string>":
        return _lists(values)
    return column_of(values, _TYPES[kind])


def text_column(cells: Sequence[Any], field: TaskField) -> pa.Array:
    """A column of text that the field reads as the values of the cells, and refuses where it refuses the cell."""
    return column_of([_text(cell, field) for cell in cells], pa.string())


def _lists(values: Sequence[FieldValue]) -> pa.Array:
    lists = [one if isinstance(one, tuple) else () for one in values]
    ends = np.cumsum([0, *map(len, lists)]).tolist()
    offsets = [end if one is not None else None for end, one in zip(ends, values, strict=False)]
    entries = column_of([entry for one in lists for entry in one], pa.string())
    return pa.ListArray.from_arrays(numbers_of([*offsets, ends[-1]], pa.int32()), entries)


def _value(cell: Any, field: TaskField) -> FieldValue:
    try:
        return field.typed(cell)
    except ValueError:
        return None


def _text(cell: Any, field: TaskField) -> str | None:
    if isinstance(cell, str):
        return cell
    try:
        plain = field.rules.as_json(field.typed(cell))
    except EmptyFieldError:
        return None
    except ValueError:
        return f"[{type(cell).__name__} {cell}]"  # no kind reads it, while 5 alone would be a list of one entry
    return plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
