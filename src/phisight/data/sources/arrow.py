"""Arrow columns from Python values without pandas.

``pyarrow.array`` and ``Table.from_pylist`` import pandas when it is installed (datasets brings it), to see whether the
values are a Series. That takes half a second, as long as 200 images; Arrow's buffers do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

STORED_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""A column of images: each its bytes, or where it is."""
_MOST_BYTES = 2**31 - 1


def is_embedded(kind: pa.DataType) -> bool:
    """Whether an image column of that type holds the bytes themselves."""
    return bool(pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def stored_image(cell: Any) -> dict[str, Any] | None:
    """A cell of an image column (bytes, their struct, a path or an address) as ``STORED_IMAGE`` holds it."""
    if cell is None:
        return None
    if isinstance(cell, Mapping):
        return {"bytes": cell.get("bytes"), "path": cell.get("path")}
    return {"bytes": cell, "path": None} if isinstance(cell, bytes) else {"bytes": None, "path": str(cell)}


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of the schema's columns; a value that is missing is null. The same as ``Table.from_pylist``."""
    columns = [column_of([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of foreign values; ArrowInvalid or ArrowTypeError for one that does not fit."""
    if pa.types.is_string(kind) and all(value is None or type(value) is str for value in values):
        return _text(values)
    return pa.array(values, kind)


def texts_of(rows: Sequence[Sequence[str]], schema: pa.Schema) -> pa.Table:
    """A table of rows of text, one value a column: all values in one buffer, so that many columns cost little."""
    cells = [cell for column in zip(*rows, strict=True) for cell in column]
    whole = _text(cells)
    if not isinstance(whole, pa.StringArray) or not rows:
        columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
        return pa.Table.from_arrays([column_of(column, pa.string()) for column in columns], schema=schema)
    parts = [whole.slice(at * len(rows), len(rows)) for at in range(len(schema))]
    return pa.Table.from_arrays(parts, schema=schema)


def numbers_of(values: Sequence[int] | Sequence[float | None], kind: pa.DataType) -> pa.Array:
    """A column of numbers that are of that kind already (int32, int64 or float64), or null."""
    known = np.array([value is not None for value in values], dtype=bool)
    data = np.array([0 if value is None else value for value in values], dtype=kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [_validity(known), pa.py_buffer(data)])


def _text(values: Sequence[str | None]) -> pa.Array:
    texts = [value or "" for value in values]
    joined = "".join(texts)
    if joined.isascii():
        lengths, data = map(len, texts), joined.encode()
    else:
        encoded = [text.encode("utf-8", "replace") for text in texts]  # lone surrogates: ?
        lengths, data = map(len, encoded), b"".join(encoded)
    ends = np.fromiter(itertools.accumulate(lengths, initial=0), dtype=np.int64, count=len(texts) + 1)
    if ends[-1] > _MOST_BYTES:
        return pa.array(values, pa.string())
    known = np.array([value is not None for value in values], dtype=bool)
    buffers = [_validity(known), pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _validity(known: np.ndarray) -> pa.Buffer | None:
    """Arrow's bitmap of values that are not null; none when all are there."""
    return None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
