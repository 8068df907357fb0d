"""JSON arrays, nested records, workbooks and conversations of other tools, as people have them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SourceError
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.sources.layouts.open import open_source
from tests.helpers.images import write_images


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row for batch in open_source(str(path), **options).batches() for row in batch.table.to_pylist()]


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


RECORDS = [{"id": 1, "title": "Hat", "image": "a.jpg"}, {"id": 2, "title": "Bag", "image": "b.jpg"}]


@pytest.mark.parametrize(
    "value",
    [
        RECORDS,
        {"data": RECORDS},
        {"meta": {"count": 2}, "products": RECORDS},
        {"version": 1, "names": ["x"], "rows": RECORDS},
        {"status": "ok", "result": {"total": 2, "items": RECORDS}},
        {"data": {"products": {"list": RECORDS}}, "errors": {}},
        {"columns": list(RECORDS[0]), "index": [0, 1], "data": [list(row.values()) for row in RECORDS]},
        {name: [row[name] for row in RECORDS] for name in RECORDS[0]},
        {name: {str(at): row[name] for at, row in enumerate(RECORDS)} for name in RECORDS[0]},
    ],
)
def test_an_array_of_records_wherever_it_stands(value: Any, tmp_path: Path) -> None:
    assert rows_of(written(tmp_path / "t.json", value)) == RECORDS


def test_an_index_of_records(tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", {"p1": {"title": "Hat"}, "p2": {"title": "Bag"}})
    assert rows_of(path) == [{"key": "p1", "title": "Hat"}, {"key": "p2", "title": "Bag"}]
    photos = {"images": [{"src": "a.jpg"}]}
    path = written(tmp_path / "u.json", {"p1": {"title": "Hat", **photos}, "p2": {"title": "Bag", **photos}})
    assert [row["title"] for row in rows_of(path)] == ["Hat", "Bag"]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_nested_values_are_named_by_their_path(suffix: str, tmp_path: Path) -> None:
    records = [
        {"title": "Hat", "price": {"amount": 12.5, "currency": {"code": "EUR"}}, "tags": ["a", "b"], "empty": {}},
        {"title": "Bag", "price": {"amount": 7}, "price.amount": 8},
    ]
    path = tmp_path / f"t.{suffix}"
    path.write_text(json.dumps(records) if suffix == "json" else "\n".join(map(json.dumps, records)))
    first, second = rows_of(path)
    assert (first["price.amount"], first["price.currency.code"]) == (12.5, "EUR")
    assert json.loads(first["tags"]) == ["a", "b"]
    assert second["price.amount"] == 8


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": RECORDS, "b": RECORDS}, "several lists of records"),
        (["x", "y"], "no JSON object"),
        ("text", "no list of records"),
        ({"a": 1}, "no list of records"),
        ([], "no JSON object"),
    ],
)
def test_other_json_is_one_line(value: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=says) as error:
        open_source(str(written(tmp_path / "t.json", value)))
    assert "\n" not in str(error.value)


def coco(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "hat"}, {"id": 2, "name": "bag"}],
        "annotations": annotations,
    }


def test_coco_captions_and_categories(tmp_path: Path) -> None:
    captions = coco([{"image_id": 7, "caption": "A hat."}, {"image_id": 7, "caption": "One hat."}])
    assert [row["caption"] for row in rows_of(written(tmp_path / "c.json", captions))] == ["A hat.", "One hat.", None]
    single = coco([{"image_id": 7, "category_id": 1}, {"image_id": 0, "category_id": 2}])
    assert [(row["file_name"], row["category"]) for row in rows_of(written(tmp_path / "s.json", single))] == [
        ("a.jpg", "hat"), ("b.jpg", "bag"),
    ]  # fmt: skip
    several = coco([{"image_id": 7, "category_id": 1}, {"image_id": 7, "category_id": 2}])
    assert json.loads(rows_of(written(tmp_path / "m.json", several))[0]["categories"]) == ["hat", "bag"]


def openai(number: int, image: str, question: str, answer: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": image}}]
    return {"id": number, "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}


def trl(number: int, image: str, question: str, answer: str) -> dict[str, Any]:
    asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    return {
        "images": [image],
        "messages": [asked, {"role": "assistant", "content": [{"type": "text", "text": answer}]}],
    }


def llava(number: int, image: str, question: str, answer: str) -> dict[str, Any]:
    talk = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": number, "image": image, "conversations": talk}


@pytest.mark.parametrize("form", [openai, trl, llava])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_conversations_of_every_tool(form: Any, suffix: str, tmp_path: Path) -> None:
    names = write_images(tmp_path, 3)
    entries = [form(at, name, "What is it?", f"Thing {at}") for at, name in enumerate(names)]
    path = tmp_path / f"talk.{suffix}"
    path.write_text(json.dumps(entries) if suffix == "json" else "\n".join(map(json.dumps, entries)))
    result = build(str(path), tmp_path / "ds")
    data = DatasetFolder.open(tmp_path / "ds")
    assert (result.kept, data.task.prompt) == (3, "What is it?")
    assert sorted(data.task.render(row) for row in data.rows()) == ["Thing 0", "Thing 1", "Thing 2"]
    if form is not trl:
        assert sorted(row["id"] for row in data.rows()) == ["0", "1", "2"], "id 0 stays 0"


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("python_calamine", reason="the excel extra is not installed")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 3, 4)
    rows: list[list[Any]] = [
        [],
        ["id", "title", "price", "since", "ok"],
        ["001", "Hat", 12.5, day, True],
        [],
        ["002", None, 7, day, False],
    ]
    path = workbook(tmp_path / "t.xlsx", {"Prices": rows, "Other": [["a"], [1]]})
    assert rows_of(path) == [
        {"id": "001", "title": "Hat", "price": 12.5, "since": "2024-03-04", "ok": True},
        {"id": "002", "title": None, "price": 7.0, "since": "2024-03-04", "ok": False},
    ]
    assert rows_of(path, sheet="Other") == rows_of(path, sheet="2") == [{"a": 1}]
    with pytest.raises(SourceError, match="no sheet 'Third'"):
        open_source(str(path), sheet="Third")


def test_a_workbook_is_built(tmp_path: Path) -> None:
    names = write_images(tmp_path, 4)
    rows: list[list[Any]] = [
        ["id", "title", "price", "photo"],
        *([at, f"Thing {at}", at + 1.5, name] for at, name in enumerate(names)),
    ]
    path = workbook(tmp_path / "t.xlsx", {"Sheet1": rows})
    assert build(str(path), tmp_path / "ds", BuildOptions()).kept == 4


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"id,title\n1,Hat\n", b"\xd0\xcf\x11\xe0" + b"\0" * 600])
@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".ods"])
def test_a_damaged_workbook_is_one_line(content: bytes, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("python_calamine", reason="the excel extra is not installed")
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"workbook|empty") as error:
        open_source(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("t.zip", "unpack it"),
        ("t.pkl", "may run code"),
        ("t.db", "export the table"),
        ("a.jpg", "an image"),
        *((f"t.{kind}.{packed}", "unpack it") for kind in ("csv", "jsonl") for packed in ("gz", "bz2", "xz", "zst")),
        ("t.7z", "unpack it"),
        ("t", "no known kind"),
    ],
)
def test_a_refused_kind_is_recognized(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceError, match=says):
        open_source(str(tmp_path / name))
