"""Answers on disk: typed columns in every format, a review file, and nothing lost when the process dies."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from phisight.core.errors import SettingsError
from phisight.core.task import Task
from phisight.extraction.answer import Answer
from phisight.extraction.results import ResultFile

TASK = Task()
SURE = Answer(
    {"title": 'Café, "new"', "category3_code": "HATS", "full_price": 12.5},
    text="Product: ...",
    confidence={"title": 0.5, "category3_code": 0.9, "full_price": 0.25},
    interval={"full_price": (10.0, 15.5)},
)
FAILED = Answer(error="image: there is no image gone.jpg")


def filled(out: Path, **options: Any) -> tuple[int, int]:
    with ResultFile(out, TASK, "same", **options) as results:
        results.add(2, "c.jpg", SURE)
        results.add(0, "a.jpg", FAILED)
        results.add(1, "b.jpg", Answer({**SURE, "full_price": 3.0}, text="x", confidence={"title": 0.9}))
        return results.finish()


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    text = path.read_text(encoding="utf-8")
    return (
        list(csv.DictReader(text.splitlines())) if path.suffix == ".csv" else list(map(json.loads, text.splitlines()))
    )


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_in_the_order_of_the_source(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{suffix}"
    assert filled(out) == (3, 0)
    rows = read(out)
    assert [row["image"] for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
    assert rows[0]["error"] == FAILED.error
    assert rows[0]["title"] in (None, "")
    last = rows[2]
    assert last["title"] == SURE["title"]
    assert float(last["full_price"]) == 12.5
    assert (float(last["full_price_low"]), float(last["full_price_high"])) == (10.0, 15.5)
    assert float(last["confidence"]) == 0.25
    assert last["error"] in (None, "")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_columns_are_typed(tmp_path: Path) -> None:
    filled(tmp_path / "out.parquet")
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert str(schema.field("full_price").type) == "double"
    assert str(schema.field("title_confidence").type) == "double"
    assert str(schema.field("title").type) == "string"


def test_what_is_not_sure_goes_to_the_review_file(tmp_path: Path) -> None:
    assert filled(tmp_path / "out.jsonl", min_confidence=0.8) == (1, 2)
    assert [row["image"] for row in read(tmp_path / "out.jsonl")] == ["b.jpg"]
    assert [row["image"] for row in read(tmp_path / "out.review.jsonl")] == ["a.jpg", "c.jpg"]


@pytest.mark.parametrize("torn", [b"", b'{"row": 7, "ima'])
def test_a_killed_run_continues(torn: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with ResultFile(out, TASK, "same") as results:
        results.add(1, "b.jpg", SURE)
    with (tmp_path / "out.csv.partial.jsonl").open("ab") as file:
        file.write(torn)
    with ResultFile(out, TASK, "same") as results:
        assert results.done == {1}
        results.add(1, "twice.jpg", FAILED)
        results.add(0, "a.jpg", SURE)
        assert results.finish() == (2, 0)
    assert [row["image"] for row in read(out)] == ["a.jpg", "b.jpg"]


def test_rows_of_another_model_are_not_taken_over(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "out.csv", TASK, "one model") as results:
        results.add(1, "b.jpg", SURE)
    with ResultFile(tmp_path / "out.csv", TASK, "another") as results:
        assert results.done == set()


def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must end in \.csv"):
        ResultFile(tmp_path / "out.txt", TASK, "")
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(SettingsError, match="is there already"):
        ResultFile(tmp_path / "out.csv", TASK, "")
    assert (tmp_path / "out.csv").read_text() == "mine"
