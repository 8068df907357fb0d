"""Columns of every kind of field: read from any source, stored with their type, guessed, asked about, optional."""

from __future__ import annotations

import csv
import datetime
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import SettingsError
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.dataset.folder import DatasetFolder
from tests.helpers.images import write_images

FIELDS = {"n": "integer", "day": "date", "ok": "boolean", "tags": "list", "tip": "number?"}
TASK = Task.model_validate({"answer": "N {n}, on {day}, ok {ok}, tags {tags}, tip {tip}", "fields": FIELDS})
VALUES: dict[str, list[Any]] = {
    "n": [12345678901234567, 3, 98765432109876543, 0],
    "day": [
        datetime.date(2024, 3, 31),
        datetime.date(1999, 12, 1),
        datetime.date(2024, 2, 29),
        datetime.date(2023, 1, 2),
    ],
    "ok": [True, False, True, True],
    "tags": [["red", "blue"], ["red"], ["a, b", "c"], ["x"]],
    "tip": [1.5, None, 2.0, None],
}
WRITTEN: dict[str, Callable[[str, Any], str]] = {
    "plain": lambda name, value: "" if value is None else json.dumps(value) if name == "tags" else str(value),
    "german": lambda name, value: (
        "-" if value is None
        else f"{value:%d.%m.%Y}" if name == "day"
        else ("ja" if value else "nein") if name == "ok"
        else "|".join(value) if name == "tags"
        else f"{value:.2f} €".replace(".", ",") if name == "tip"
        else str(value)
    ),
    "python": lambda name, value: "" if value is None else str(value),
}  # fmt: skip


def write_table(folder: Path, form: str) -> Path:
    """The values as a table of some form, with an image for each row."""
    images = write_images(folder, 4)
    rows = [{"photo": images[at], **{name: column[at] for name, column in VALUES.items()}} for at in range(4)]
    if form in WRITTEN:
        path = folder / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            write = WRITTEN[form]
            writer.writerows(
                {name: write(name, cell) if name != "photo" else cell for name, cell in row.items()} for row in rows
            )
        return path
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
        return folder / "table.parquet"
    path = folder / "table.jsonl"
    path.write_text("\n".join(json.dumps(row, default=str) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", [*WRITTEN, "parquet", "jsonl"])
def test_values_are_exact_whatever_they_came_from(form: str, tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", form)
    result = build(str(source), tmp_path / "ds", BuildOptions(image="photo", task=TASK))
    assert result.kept == 4
    opened = DatasetFolder.open(tmp_path / "ds")
    assert {name: [row[name] for row in opened.rows()] for name in VALUES} == VALUES
    types = {name: str(opened.table[name].type).replace("element", "item") for name in VALUES}
    assert types == {"n": "int64", "day": "date32[day]", "ok": "bool", "tags": "list<item: string>", "tip": "double"}
    assert opened.task.render(opened.rows()[1]) == "N 3, on 1999-12-01, ok no, tags red, tip none"
    assert [opened.task.parse(opened.task.render(row)).values for row in opened.rows()] == [
        opened.task.values(row) for row in opened.rows()
    ]


def table(folder: Path, columns: dict[str, list[str]]) -> Path:
    images = write_images(folder, len(next(iter(columns.values()))))
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", *columns])
        writer.writerows(zip(images, *columns.values(), strict=True))
    return path


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "build", *words])
    said = str(result.exception) if isinstance(result.exception, SettingsError) else result.output
    return result.exit_code, " ".join(said.split())


def test_dates_that_can_be_read_in_two_ways_are_asked_about(tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"day": ["03/04/2024", "05/06/2024", "07/07/2024"]})
    words = [str(source), "--out", str(tmp_path / "ds"), "--field", "day:date"]
    code, said = run(*words)
    assert (code, "'03/04/2024'" in said, "say --date day:dmy (day first) or --date day:mdy" in said) == (1, True, True)
    assert not (tmp_path / "ds").exists()
    assert run(*words, "--date", "day:mdy")[0] == 0
    days = [row["day"] for row in DatasetFolder.open(tmp_path / "ds").rows()]
    assert days == [datetime.date(2024, 3, 4), datetime.date(2024, 5, 6), datetime.date(2024, 7, 7)]


def test_one_date_settles_the_column(tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"day": ["03/04/2024", "13/04/2024", "31/12/2023"]})
    task = Task.model_validate({"answer": "{day}", "fields": {"day": "date"}})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=task))
    assert DatasetFolder.open(tmp_path / "ds").rows()[0]["day"] == datetime.date(2024, 4, 3)
    assert any("day first ('03/04/2024' -> 2024-04-03)" in guess for guess in result.guesses)


def test_everything_that_stops_a_build_is_said_at_once(tmp_path: Path) -> None:
    columns = {"day": ["03/04/2024", "05/06/2024"], "price": ["1.299", "2.450"], "set": ["train", "moon"]}
    source = table(tmp_path / "in", columns)
    task = Task.model_validate({"answer": "{day}: {price}", "fields": {"day": "date", "price": "number"}})
    options = BuildOptions(image="foto", key="id", task=task, group=GroupRule("shop"), split_column="set")
    with pytest.raises(SettingsError) as caught:
        build(str(source), tmp_path / "ds", options)
    said = str(caught.value)
    assert said.startswith("6 things stop the build: ")
    for part in (
        "--image 'foto'",
        "--key 'id'",
        "--group 'shop'",
        "'moon' 1 rows",
        "--date day:dmy",
        "--number price:",
    ):
        assert part in said
    assert not (tmp_path / "ds").exists()


def test_an_optional_column_costs_no_row(tmp_path: Path) -> None:
    """The case of a public receipt table: half of the rows have no tip."""
    tips = [f"{at}.50" if at % 2 else "" for at in range(40)]
    source = table(tmp_path / "in", {"total": [f"{at}.25" for at in range(40)], "tip": tips})
    fields = {"total": "number", "tip": "number"}
    required = Task.model_validate({"answer": "{total}, {tip}", "fields": fields})
    lost = build(str(source), tmp_path / "required", BuildOptions(task=required))
    assert (lost.kept, lost.rejected["empty_field"]) == (20, 20)
    assert any(
        "'tip' is empty in 20 of 40 rows" in one and "--field tip:number? keeps them" in one for one in lost.remarks
    )
    optional = Task.model_validate({"answer": "{total}, {tip}", "fields": {**fields, "tip": "number?"}})
    assert build(str(source), tmp_path / "ds", BuildOptions(task=optional)).kept == 40
    assert [row["tip"] for row in DatasetFolder.open(tmp_path / "ds").rows()][:2] == [None, 1.5]


def test_signs_for_no_value_are_none(tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"total": ["1.25", "2.50", "3.75"], "tip": ["n/a", "0.50", "-"]})
    task = Task.model_validate({"answer": "{total}, {tip}", "fields": {"total": "number", "tip": "number?"}})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=task))
    assert [row["tip"] for row in DatasetFolder.open(tmp_path / "ds").rows()] == [None, 0.5, None]
    assert any("2 values of 'tip' held a sign for no value" in remark for remark in result.remarks)


def test_what_is_no_value_of_the_kind_is_rejected_by_name(tmp_path: Path) -> None:
    columns = {"n": ["1", "2", "2.5", "007", "5"], "ok": ["yes", "x", "no", "ja", "maybe"]}
    task = Task.model_validate({"answer": "{n}, {ok}", "fields": {"n": "integer", "ok": "boolean"}})
    result = build(str(table(tmp_path / "in", columns)), tmp_path / "ds", BuildOptions(task=task))
    assert result.kept == 2
    assert result.rejected == {"bad_value": 3}
    assert any("'2.5'" in one and "'007'" in one for one in result.remarks)
    assert any("'maybe'" in one for one in result.remarks)


def test_a_special_token_in_a_list_is_seen(tmp_path: Path) -> None:
    task = Task.model_validate({"answer": "{tags}", "fields": {"tags": "list"}})
    source = table(tmp_path / "in", {"tags": ['["a", "b"]', '["c", "<|end|>"]', '["d", "&lt;b&gt;bold&lt;/b&gt;"]']})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=task))
    assert result.rejected == {"special_token": 1}
    assert DatasetFolder.open(tmp_path / "ds").rows()[1]["tags"] == ["d", "bold"]


def test_kinds_are_guessed_by_content_and_the_command_says_the_same(tmp_path: Path) -> None:
    columns = {
        "when": [f"{1 + at % 28:02d}/{1 + at % 12:02d}/2024" for at in range(40)],
        "pieces": [str(at * 3) for at in range(40)],
        "parts": [json.dumps(["wool", "silk"][: 1 + at % 2]) for at in range(40)],
        "worn": [("yes", "no")[at % 2] for at in range(40)],
        "sum": [f"{1000 + at}.{at:02d}" for at in range(40)],
        "note": [f"a few words {at}" for at in range(40)],
    }
    source = table(tmp_path / "in", columns)
    out = tmp_path / "ds"
    code, said = run(str(source), "--out", str(out), "--processes", "1")
    assert code == 0
    kinds = {name: field.short for name, field in DatasetFolder.open(out).task.fields.items()}
    assert kinds == {
        "note": "text", "sum": "number", "parts": "list", "worn": "boolean", "when": "date", "pieces": "integer",
    }  # fmt: skip
    line = said.split("the same by hand: ")[1].split(" finding: ")[0]
    words = shlex.split(line)
    assert words[:3] == ["phisight", "data", "build"]
    again = tmp_path / "again"
    code, said = run(*[str(again) if word == str(out) else word for word in words[3:]])
    assert code == 0
    assert "guessed: --" not in said
    for name in ("dataset.json", "metadata.parquet"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("answr: '{a}'\nfields: {a: text}\n", "unknown key 'answr', did you mean 'answer'?"),
        ("answer: '{a}'\nfields: {a: {knd: text}}\n", "unknown key 'fields.a.knd', did you mean 'kind'?"),
        ("answer: '{a}'\nfields: {a: nmber}\n", "'nmber' is no kind of field, did you mean 'number'?"),
        ("answer: '{a}'\nfields: {a: {kind: list, seperator: '|'}}\n", "did you mean 'separator'?"),
        ("answer: '{a}'\nfields: {a: {kind: number, decimals: many}}\n", "fields.a.decimals = 'many'"),
        ("answer: '{a}, {b}'\nfields: {a: text}\n", "names a, b but the fields are a"),
        ("- a\n", "holds a list, no task"),
    ],
)
def test_a_typo_in_a_task_file_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"a": ["x", "y"]})
    (tmp_path / "task.yaml").write_text(content, encoding="utf-8")
    code, said = run(str(source), "--out", str(tmp_path / "ds"), "--task", str(tmp_path / "task.yaml"))
    assert code == 1
    assert message in said
    assert "pydantic" not in said


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--date", "day", "COLUMN:dmy"),
        ("--date", "day:dym", "COLUMN:dmy"),
        ("--list", "tags", "COLUMN:SIGN"),
        ("--list", "gone:|", "--list names 'gone'"),
        ("--date", "a:dmy", "--date names 'a'"),
        ("--field", "a:dat", "did you mean 'date'?"),
    ],
)
def test_an_option_that_fits_nothing_is_named(option: str, value: str, message: str, tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"a": ["x", "y"]})
    words = [str(source), "--out", str(tmp_path / "ds"), "--field", "a:text", option, value]
    code, said = run(*words)
    assert code == 1
    assert message in said


@pytest.mark.parametrize(
    ("words", "kind"),
    [("x y", "category"), ("yes ja", "category"), ("no n", "category"), ("yes nein", "category"),
     ("yes no", "boolean"), ("Ja nein", "boolean"), ("0 1", "boolean"), ("y n", "boolean")],
)  # fmt: skip
def test_words_of_different_pairs_are_not_guessed_to_be_truth_values(words: str, kind: str, tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"label_of_part": [words.split()[at % 2] for at in range(8)]})
    build(str(source), tmp_path / "ds")
    assert DatasetFolder.open(tmp_path / "ds").task.fields["label_of_part"].kind == kind
