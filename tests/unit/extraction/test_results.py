"""Answers on disk: typed columns in every format, a review file, and nothing lost when the process dies."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from phisight.core.errors import SettingsError, StorageError
from phisight.core.task import Task
from phisight.data.values.spreadsheet_cells import harmless
from phisight.extraction.answer import Answer, AnswerReader
from phisight.extraction.image_list import readable
from phisight.extraction.results import ResultFile, require_place, require_writable, schema_of

TASK = Task()
SURE = Answer(
    {"title": 'Café, "new"', "category3_code": "HATS", "full_price": 12.5},
    text="Product: ...",
    confidence={"title": 0.5, "category3_code": 0.9, "full_price": 0.25},
    interval={"full_price": (10.0, 15.5)},
)
FAILED = Answer(error="image: there is no image gone.jpg")


SAME = {"model": "runs/a", "source": "photos"}


def filled(out: Path, **options: Any) -> tuple[int, int]:
    with ResultFile(out, TASK, SAME, **options) as results:
        results.add(2, "c.jpg", SURE)
        results.add(0, "a.jpg", FAILED)
        results.add(1, "b.jpg", Answer({**SURE, "full_price": 3.0}, text="x", confidence={"title": 0.9}))
        return results.finish()


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


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


def test_what_is_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must end in \.csv"):
        ResultFile(tmp_path / "out.txt", TASK, SAME)
    filled(tmp_path / "out.csv")
    mine = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(SettingsError, match=r"out\.csv is there already; name another"):
        ResultFile(tmp_path / "out.csv", TASK, SAME)
    for name, text in (("out.csv", "a,b\n1,2\n"), ("out.jsonl", '{"a": 1}\n')):
        other = tmp_path / "other" / name
        other.parent.mkdir(exist_ok=True)
        other.write_text(text)
        with pytest.raises(SettingsError, match="already, a table with other columns; name another"):
            ResultFile(other, TASK, SAME)
    assert (tmp_path / "out.csv").read_bytes() == mine
    assert filled(tmp_path / "out.csv", overwrite=True) == (3, 0)


def test_a_review_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.review.csv").write_text("mine")
    with pytest.raises(SettingsError, match=r"out\.review\.csv is there already"):
        ResultFile(tmp_path / "out.csv", TASK, SAME, min_confidence=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["out.review.csv"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_fields_that_are_called_as_our_columns(suffix: str, tmp_path: Path) -> None:
    names = ["image", "text", "error", "confidence", "price", "price_low", "text_confidence", "phisight_text"]
    kinds = {name: "number" if name.startswith("price") else "text" for name in names}
    task = Task(answer=", ".join(f"{name}: {{{name}}}" for name in names), fields=kinds)
    values = {name: 2.5 if kind == "number" else f"<{name}>" for name, kind in kinds.items()}
    answer = Answer(values, text="all", confidence=dict.fromkeys(names, 0.5), interval={"price": (1.0, 4.0)})
    with ResultFile(tmp_path / f"out.{suffix}", task, SAME) as results:
        results.add(0, "a.jpg", answer)
        results.finish()
    (row,) = read(tmp_path / f"out.{suffix}")
    assert {name: row[name] for name in names if kinds[name] == "text"} == {
        name: value for name, value in values.items() if kinds[name] == "text"
    }
    assert (row["phisight_image"], row["phisight_phisight_text"]) == ("a.jpg", "all")
    assert (float(row["price"]), float(row["price_low"]), float(row["phisight_price_low"])) == (2.5, 2.5, 1.0)
    assert len(row) == len(schema_of(task).names) == len(set(schema_of(task).names))


NAMES = [
    "a,b.jpg",
    "a\nb.jpg",
    "a\r\nb.jpg",
    'a"b.jpg',
    " a .jpg",
    "=1+1.jpg",
    "caf\udce9.jpg",
    "日本.jpg",
    "a\tb",
    "\ufeff",
]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_unusual_names_and_texts(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{suffix}"
    with ResultFile(out, TASK, SAME) as results:
        for row, name in enumerate(NAMES):
            results.add(row, readable(name), Answer(text=name, error=f"image: {name}"))
        assert results.finish() == (len(NAMES), 0)
    rows = read(out)
    names = [name.replace("\udce9", "\\udce9") for name in NAMES]
    assert [row["image"] for row in rows] == (list(map(harmless, names)) if suffix == "csv" else names)
    assert [row["error"] for row in rows] == ["image: " + name.replace("\udce9", "\\udce9") for name in NAMES]


@pytest.mark.parametrize("written", ["1e999", "9" * 400, "-1e400"])
def test_a_number_that_no_column_holds_is_an_error_of_its_row(written: str) -> None:
    answer = AnswerReader(TASK).answer(f"Product: A, Category: HATS, Full Price: {written}", {})
    assert answer.error is not None
    assert "full_price" in answer.error
    assert not answer


@pytest.mark.parametrize(
    ("count", "fits"), [(-(2**63) - 1, False), (-(2**63), True), (2**63 - 1, True), (2**63, False)]
)
def test_an_integer_is_read_as_far_as_its_column_goes(count: int, fits: bool) -> None:
    task = Task(answer="{count}", fields={"count": "integer"})
    answer = AnswerReader(task).answer(str(count), {})
    assert dict(answer) == ({"count": count} if fits else {})
    assert answer.ok is fits


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot be written: File exists; choose another --out"):
        ResultFile(tmp_path / "file" / "out.csv", TASK, SAME)


def test_nothing_is_left_of_a_prediction_without_a_row(tmp_path: Path) -> None:
    with pytest.raises(SettingsError), ResultFile(tmp_path / "out.csv", TASK, SAME):
        raise SettingsError("no image")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", "sub/", "a/b/"])
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet", "metadata.csv", "metadata.jsonl"])
def test_a_table_that_would_change_its_source_is_refused(below: str, name: str, tmp_path: Path) -> None:
    folder, link = tmp_path / "photos", tmp_path / "link"
    (folder / below).mkdir(parents=True)
    link.symlink_to(folder)
    for out in (folder, link):
        for source in (folder, link):
            with pytest.raises(SettingsError, match="would be taken for their table"):
                require_place(out / below / name, ["https://a.org/b.jpg", str(source)])
    require_place(tmp_path / name, [str(folder), str(folder / "*.jpg"), "-", "hf:owner/photos"])


@pytest.mark.parametrize("source", ["out.csv", "out.review.csv", "out.csv.partial.jsonl", "sub/../out.csv", "link.csv"])
def test_a_source_is_never_written_over(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "out.csv")
    (tmp_path / source).write_text("image\n")
    monkeypatch.chdir(tmp_path)
    for out in (Path("out.csv"), tmp_path / "out.csv"):
        with pytest.raises(SettingsError, match="is what the answers are made of"):
            require_place(out, [source])
    require_place(Path("other.csv"), [source])


@pytest.mark.parametrize("there", ["out.csv", "out.review.csv"])
def test_a_table_that_is_there_is_named_before_anything_is_loaded(there: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    require_writable(out, [], overwrite=False)
    (tmp_path / there).write_text("an earlier one")
    with pytest.raises(SettingsError, match="is there already; name another file, or replace it with --overwrite"):
        require_writable(out, [], overwrite=False)
    require_writable(out, [], overwrite=True)
    (tmp_path / "out.csv.partial.jsonl").write_text("")
    require_writable(out, [], overwrite=False)
    with pytest.raises(SettingsError, match=r"must end in \.csv"):
        require_writable(tmp_path / "out.txt", [], overwrite=True)


def test_no_cell_of_a_table_of_answers_runs_in_a_spreadsheet(tmp_path: Path) -> None:
    """What the model wrote and what files are called are other people's texts."""
    hostile = "=cmd|' /C calc'!A0"
    with ResultFile(tmp_path / "out.csv", TASK, SAME, min_confidence=0.5) as results:
        results.add(0, f"{hostile}.jpg", Answer({**SURE, "title": hostile}, text=hostile, confidence={"title": 0.1}))
        results.finish()
    (row,) = read(tmp_path / "out.review.csv")
    assert (row["image"], row["title"], row["text"]) == (f"'{hostile}.jpg", f"'{hostile}", f"'{hostile}")
    assert float(row["full_price"]) == 12.5
