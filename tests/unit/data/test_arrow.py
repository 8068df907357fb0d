"""Columns built without pandas are the columns pyarrow builds."""

import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phisight.data.sources.arrow import column_of, numbers_of, table_of, texts_of


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.text(), max_size=40))
def test_text(values: list[str | None]) -> None:
    column = column_of(values, pa.string())
    column.validate(full=True)
    assert column.equals(pa.array(values, pa.string()))


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.float64()])
@pytest.mark.parametrize("values", [[], [1], [None], [3, None, 5, 7, 1, 2, None, 4, 9]])
def test_numbers(values: list[int | None], kind: pa.DataType) -> None:
    column = numbers_of(values, kind)
    column.validate(full=True)
    assert column.equals(pa.array(values, kind))


def test_what_is_no_text_is_still_pyarrows_to_judge() -> None:
    with pytest.raises((pa.ArrowTypeError, pa.ArrowInvalid)):
        column_of(["a", 5], pa.string())
    assert column_of([1.5, None], pa.float64()).to_pylist() == [1.5, None]


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(st.text(), min_size=width, max_size=width))))
def test_rows_of_text(rows: list[list[str]]) -> None:
    schema = pa.schema([(f"c{at}", pa.string()) for at in range(len(rows[0]) if rows else 3)])
    table = texts_of(rows, schema)
    table.validate(full=True)
    assert table.schema == schema
    assert [list(row.values()) for row in table.to_pylist()] == rows


@pytest.mark.process
def test_no_pandas() -> None:
    script = f"""
import sys, pyarrow as pa
from phisight.data.sources.arrow import {table_of.__name__}
table = table_of([{{"a": "x"}}, {{}}], pa.schema([("a", pa.string())]))
assert table.to_pylist() == [{{"a": "x"}}, {{"a": None}}]
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
