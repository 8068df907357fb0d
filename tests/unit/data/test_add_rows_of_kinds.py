"""Rows added to a data set with fields of every kind: old values stay, new ones are read as in a build of their own."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.dataset_folder import REJECTS
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.add_rows import add_rows
from phisight.data.dataset.folder import DatasetFolder
from tests.helpers.images import encoded, smooth_image

Case = tuple[list[str], list[Any], pa.DataType, str]
_DAYS = [datetime.date(2024, 3, 8 + n) for n in range(12)]
CASES: dict[str, Case] = {
    "number": ([f"€ {n},5" for n in range(12)], [n + 0.5 for n in range(12)], pa.float64(), "dear"),
    "integer": ([f"{n - 3}" for n in range(12)], [n - 3 for n in range(12)], pa.int64(), "1.5"),
    "boolean": (["ja", "nein"] * 6, [True, False] * 6, pa.bool_(), "perhaps"),
    "date": ([f"{day:%d.%m.%Y}" for day in _DAYS], _DAYS, pa.date32(), "31.2.2024"),
    "list": (
        [f"red|size {n}|soft" for n in range(12)],
        [["red", f"size {n}", "soft"] for n in range(12)],
        pa.list_(pa.string()),
        "",
    ),
}
"""By kind cells as people write them, their values, the type of a column of them, and a text that cannot be read (any
text is a list).
"""
BIG = 2**60 + 1


def task_of(kind: str) -> Task:
    return Task.model_validate({"answer": "{title} has {value}", "fields": {"title": "text", "value": kind}})


def table(folder: Path, form: str, cells: list[Any], kind: pa.DataType, first: int = 0) -> Path:
    """A table with an image for each cell."""
    (folder / "photos").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for n, cell in enumerate(cells, start=first):
        (folder / f"photos/{n}.jpg").write_bytes(encoded(smooth_image(n)))
        rows.append({"sku": f"p{n}", "title": f"Thing {n}", "value": cell, "photo": f"photos/{n}.jpg"})
    path = folder / f"t.{form}"
    if form == "parquet":
        types = {"sku": pa.string(), "title": pa.string(), "value": kind, "photo": pa.string()}
        pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(types.items())), path)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def options(kind: str) -> BuildOptions:
    return BuildOptions(task=task_of(kind), near_duplicates=False)


def values(folder: Path) -> dict[str, Any]:
    return {row["sku"]: row["value"] for row in DatasetFolder.open(folder).rows()}


def rejected(folder: Path) -> list[tuple[str, str, str]]:
    """Key, kind and reason of each row that was left out."""
    lines = map(json.loads, (folder / REJECTS).read_text(encoding="utf-8").splitlines())
    return [(line["key"], line["kind"], line["reason"]) for line in lines]


@pytest.mark.parametrize("forms", [("csv", "csv"), ("csv", "parquet"), ("parquet", "csv"), ("parquet", "parquet")])
@pytest.mark.parametrize("kind", CASES)
def test_old_and_new_values_stand_in_one_column(tmp_path: Path, kind: str, forms: tuple[str, str]) -> None:
    texts, typed, arrow, _ = CASES[kind]
    old, new = (table(tmp_path / f"{n}", form, texts if form == "csv" else typed, arrow, first=100 * n)
                for n, form in enumerate(forms))  # fmt: skip
    build(str(old), tmp_path / "ds", options(kind))
    before = DatasetFolder.open(tmp_path / "ds")
    result = add_rows(str(new), tmp_path / "ds")
    assert (result.kept, dict(result.rejected)) == (24, {})
    expected = {f"p{first + n}": value for first in (0, 100) for n, value in enumerate(typed)}
    assert values(result.folder) == expected
    assert DatasetFolder.open(result.folder).table["value"].type == before.table["value"].type == arrow


@pytest.mark.parametrize("sign", ["", "?"])
@pytest.mark.parametrize("kind", [kind for kind in CASES if CASES[kind][3]])
def test_an_added_cell_that_cannot_be_read_rejects_its_row(tmp_path: Path, kind: str, sign: str) -> None:
    texts, typed, arrow, wrong = CASES[kind]
    asked = options(kind + sign)
    build(str(table(tmp_path / "old", "csv", texts, arrow)), tmp_path / "ds", asked)
    new = table(tmp_path / "new", "csv", [*texts, wrong, ""], arrow, first=100)
    alone = build(str(new), tmp_path / "alone", asked)
    result = add_rows(str(new), tmp_path / "ds")
    assert rejected(result.folder) == rejected(tmp_path / "alone")
    assert ("p112", "bad_value") in [line[:2] for line in rejected(result.folder)]
    assert result.kept == 12 + alone.kept == 24 + bool(sign)
    assert values(result.folder).get("p113", "rejected") == (None if sign else "rejected")
    assert [values(result.folder)[f"p{100 + n}"] for n in range(12)] == typed


@pytest.mark.parametrize(
    ("kind", "cells", "arrow"),
    [
        ("integer", [*map(float, range(10)), float(2**60)], pa.float64()),
        ("boolean", [*([1, 0] * 5), 7], pa.int64()),
        ("list", [*([None] * 10), 5], pa.int64()),
        ("list", [*([None] * 10), [{"a": 1}]], pa.list_(pa.struct([("a", pa.int64())]))),
        ("date", [*([None] * 10), 20240131], pa.int64()),
    ],
)
def test_a_typed_cell_that_the_kind_refuses_is_refused_when_it_is_added(
    tmp_path: Path, kind: str, cells: list[Any], arrow: pa.DataType
) -> None:
    """A float too large to be exact does not become an integer on its way, nor a number a list of one entry."""
    texts, _, plain, _ = CASES[kind]
    asked = options(kind + "?")
    build(str(table(tmp_path / "old", "csv", texts, plain)), tmp_path / "ds", asked)
    new = table(tmp_path / "new", "parquet", cells, arrow, first=100)
    build(str(new), tmp_path / "alone", asked)
    result = add_rows(str(new), tmp_path / "ds")
    lines = [[line[:2] for line in rejected(folder)] for folder in (tmp_path / "alone", result.folder)]
    assert lines == [[("p110", "bad_value")]] * 2
    assert result.kept == 22


def test_integers_and_numbers_keep_every_digit(tmp_path: Path) -> None:
    old = table(tmp_path / "old", "parquet", [BIG + n for n in range(12)], pa.int64())
    build(str(old), tmp_path / "ds", options("integer"))
    new = table(tmp_path / "new", "csv", [f"{BIG - n}" for n in range(12)], pa.string(), first=100)
    result = add_rows(str(new), tmp_path / "ds")
    found = values(result.folder)
    assert [found["p3"], found["p103"]] == [BIG + 3, BIG - 3]
    exact = [0.1 + 0.2, 1e-7, 1 / 3, 123456789.000001] * 3
    build(str(table(tmp_path / "a", "csv", [repr(one) for one in exact], pa.float64())), tmp_path / "n",
          options("number:2"))  # fmt: skip
    more = table(tmp_path / "b", "parquet", list(range(12)), pa.int64(), first=100)
    found = values(add_rows(str(more), tmp_path / "n").folder)
    assert [found[f"p{n}"] for n in range(12)] == exact
    assert found["p103"] == 3.0
