"""Rows of a data set folder, and those that cannot be used."""

import logging
import math
from pathlib import Path

import pytest

from phisight.core.errors import DatasetError, EvaluationError, TaskError
from phisight.core.task import Task
from phisight.evaluate import read_rows
from tests.helpers.shop import make_dataset, product


def test_rows_of_the_split_are_read_with_their_truth(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "data", [product(0), {**product(1), "split": "train"}, product(2)])
    found = read_rows(folder, Task(), "test")
    assert [row.key for row in found.rows] == ["P-0", "P-2"]
    assert found.rows[1].truth == {"title": "Thing 2", "category3_code": "SCARVES", "full_price": 12.0}
    assert found.rows[1].expected == "Product: Thing 2, Category: SCARVES, Full Price: 12.0"
    assert found.rows[1].image == folder / "images/2.png"


def test_rows_without_truth_are_left_out_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = [
        {**product(0), "full_price": math.nan},
        {**product(1), "title": None},
        {**product(2), "title": "A, Category: B"},
    ]
    folder = make_dataset(tmp_path / "data", [*bad, product(3)])
    with caplog.at_level(logging.WARNING):
        found = read_rows(folder, Task())
    assert [row.key for row in found.rows] == ["P-3"]
    assert sum(found.left_out.values()) == 3
    assert "field 'full_price' is empty" in found.left_out
    assert "3 of 4 rows are left out" in caplog.text


def test_a_sample_depends_on_the_seed_alone(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "data", [product(number) for number in range(20)])
    first, again, other = (
        [row.key for row in read_rows(folder, Task(), limit=5, seed=seed).rows] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == 5


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "data", [product(0)])
    with pytest.raises(EvaluationError, match=r"split 'validation' of .* is empty: the data set has test 1; .*--split"):
        read_rows(folder, Task(), "validation")


def test_fields_that_the_table_lacks_are_named(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "data", [product(0)])
    task = Task(answer="{color}", fields={"color": "text"})
    with pytest.raises(TaskError, match=r"asks for color but .* has the columns code, title"):
        read_rows(folder, task)


def test_no_data_set_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        read_rows(tmp_path, Task())
    folder = make_dataset(tmp_path / "data", [product(0)])
    (folder / "metadata.parquet").unlink()
    with pytest.raises(DatasetError, match="build the data set again"):
        read_rows(folder, Task())
