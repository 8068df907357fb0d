"""Tables as shops and public data sets have them: what is read, what is said, what is asked."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phisight.core.errors import DatasetError, SettingsError, TaskError
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.plan.splits import SplitShares
from phisight.data.dataset.folder import DatasetFolder
from tests.helpers.images import write_images
from tests.helpers.written_numbers import STYLES, written_prices

TASK = Task.model_validate({"answer": "{title} costs {price}", "fields": {"title": "text", "price": "number"}})


def table(folder: Path, columns: dict[str, list[str]], images: str = "photo") -> Path:
    """A CSV of these columns with an image for each row beside it."""
    rows = len(next(iter(columns.values())))
    names = write_images(folder, rows)
    path = folder / "shop.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", *columns, images])
        writer.writerows([f"p{at:03}", *(column[at] for column in columns.values()), names[at]] for at in range(rows))
    return path


def rejected(folder: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["key"]: line["kind"] for line in lines}


@pytest.mark.parametrize("style", STYLES)
def test_prices_of_every_style_come_in(style: str, tmp_path: Path) -> None:
    prices = list(written_prices(style, 30, seed=1))
    source = table(tmp_path / "in", {"title": [f"Thing {n}" for n in range(30)], "price": [one.text for one in prices]})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=TASK))
    rows = DatasetFolder.open(tmp_path / "ds").rows()
    assert {row["sku"]: row["price"] for row in rows} == {f"p{n:03}": one.value for n, one in enumerate(prices)}
    assert result.kept == 30
    if any(not one.text[0].isdigit() or not one.text[-1].isdigit() for one in prices):
        assert len({row["price_currency"] for row in rows} - {None}) == 1


def test_what_cannot_be_read_is_rejected_and_said(tmp_path: Path) -> None:
    prices = ["$9.99", "on request", "$12.50", "$1,200.00", "12-15"]
    source = table(tmp_path / "in", {"title": list("abcde"), "price": prices})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=TASK))
    assert rejected(tmp_path / "ds") == {"p001": "bad_value", "p004": "bad_value"}
    assert any("'on request'" in remark and "rejects.jsonl" in remark for remark in result.remarks)
    assert any("'$1,200.00' -> 1200.0" in guess for guess in result.guesses)


def test_every_question_is_asked_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    columns = {"title": ["a", "b"], "price": ["1.299", "2.450"], "was": ["9.99 EUR", "$5.00"]}
    task = Task.model_validate(
        {"answer": "{title}: {price}, {was}", "fields": {"title": "text", "price": "number", "was": "number"}}
    )
    source = table(tmp_path / "in", columns)
    with pytest.raises(SettingsError, match=r"(?s)two ways.*--number price:.*2 currencies.*--number was:unit=strip"):
        build(str(source), tmp_path / "ds", BuildOptions(task=task))
    assert not (tmp_path / "ds").exists()
    given = {"price": {"decimal": "comma", "thousands": "dot"}, "was": {"unit": "strip"}}
    assert build(str(source), tmp_path / "ds", BuildOptions(task=task, numbers=given)).kept == 2
    assert [row["price"] for row in DatasetFolder.open(tmp_path / "ds").rows()] == [1299.0, 2450.0]


def test_texts_are_repaired_and_special_tokens_rejected(tmp_path: Path) -> None:
    titles = ["EverCool&trade; Shirt", "<b>Hat</b>", "Sock <|end|>", "red\x1b[31m bag", "<|image_1|>", "plain"]
    source = table(tmp_path / "in", {"title": titles, "price": ["1.50"] * 6})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=TASK))
    assert {row["title"] for row in DatasetFolder.open(tmp_path / "ds").rows()} == {
        "EverCool™ Shirt", "Hat", "red bag", "plain",
    }  # fmt: skip
    assert rejected(tmp_path / "ds") == {"p002": "special_token", "p004": "special_token"}
    assert sum("1 values of 'title'" in remark for remark in result.remarks) == 3


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("split", ["train", "val", "test"]),
        ("Partition", ["TRAIN", "Dev", "Test"]),
        ("subset", ["training", "valid", "holdout"]),
    ],
)
def test_the_tables_own_split_is_honored(column: str, names: list[str], tmp_path: Path) -> None:
    cells = [names[0]] * 5 + [names[1]] * 2 + [names[2]] * 3
    source = table(tmp_path / "in", {"title": [f"t{n}" for n in range(10)], "price": ["2.50"] * 10, column: cells})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=TASK))
    assert result.splits == {"train": 5, "validation": 2, "test": 3}
    assert any(f"--split-column {column} (train 5, validation 2, test 3)" in guess for guess in result.guesses)
    order = ["train", "validation", "test"]
    assert all(
        row["split"] == order[names.index(row["source_split" if column == "split" else column])]
        for row in DatasetFolder.open(tmp_path / "ds").rows()
    )
    anew = build(str(source), tmp_path / "anew", BuildOptions(task=TASK, own_split=False))
    assert anew.splits != result.splits


def test_a_column_that_is_no_split_is_left_alone(tmp_path: Path) -> None:
    cells = ["train", "goods", "train", "test"]
    source = table(tmp_path / "in", {"title": list("abcd"), "price": ["2.50"] * 4, "set": cells})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=TASK))
    assert not any("--split-column" in guess for guess in result.guesses)
    with pytest.raises(SettingsError, match=r"'goods' 1 rows"):
        build(str(source), tmp_path / "other", BuildOptions(task=TASK, split_column="set"))


def test_columns_are_guessed_by_content(tmp_path: Path) -> None:
    columns = {
        "nombre": [f"Camisa roja número {n}" for n in range(12)],
        "tipo": ["camisas", "bolsos"] * 6,
        "coste": [f"{n},50 €" for n in range(12)],
    }
    result = build(str(table(tmp_path / "in", columns, images="bildli")), tmp_path / "ds")
    assert "--image bildli" in result.guesses
    assert "--key sku" in result.guesses
    assert {"--field nombre:text", "--field tipo:category", "--field coste:number"} <= set(result.guesses)
    assert DatasetFolder.open(tmp_path / "ds").rows()[0]["coste"] == 0.5


def test_all_that_stops_a_build_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("a,b\n1,2\n1,3\n")
    with pytest.raises(SettingsError, match=r"no column looks like an image.*no column looks like a title"):
        build(str(path), tmp_path / "ds")


def test_captions_keep_the_marks_of_all_scripts(tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"పేరు": ["a b", "c d", "e f"], "full_name": ["x y", "z w", "u v"]})
    result = build(str(source), tmp_path / "ds", BuildOptions(task=None))
    assert "పేరు" in " ".join(result.guesses)


@pytest.mark.parametrize("prompt", ["<image>\nWhat?", "What?<|end|>"])
def test_a_prompt_with_special_tokens_is_refused(prompt: str, tmp_path: Path) -> None:
    source = table(tmp_path / "in", {"title": ["a", "b"], "price": ["1.50"] * 2})
    with pytest.raises(TaskError, match="write the question alone"):
        build(str(source), tmp_path / "ds", BuildOptions(prompt=prompt))
    result = build(str(source), tmp_path / "ds", BuildOptions(prompt="<|image_1|>\nWhat is this?"))
    assert DatasetFolder.open(result.folder).task.prompt == "What is this?"


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".build" not in path.parts
    }


def test_a_failed_build_leaves_the_data_set_that_stands_there(tmp_path: Path) -> None:
    good = table(tmp_path / "in", {"title": [f"t{n}" for n in range(10)], "price": ["2.50"] * 10})
    build(str(good), tmp_path / "ds", BuildOptions(task=TASK))
    before = folder_bytes(tmp_path / "ds")
    whole = good.read_bytes()
    lines = whole.decode().splitlines()
    good.write_text("\n".join([lines[0], *(line.replace("2.50", "free") for line in lines[1:])]), encoding="utf-8")
    with pytest.raises(TaskError, match="10 of 10 rows"):
        build(str(good), tmp_path / "ds", BuildOptions(task=TASK))
    assert folder_bytes(tmp_path / "ds") == before
    assert len(DatasetFolder.open(tmp_path / "ds")) == 10
    good.write_bytes(whole)
    assert build(str(good), tmp_path / "ds", BuildOptions(task=TASK)).kept == 10
    assert folder_bytes(tmp_path / "ds") == before


def test_another_source_replaces_a_data_set_only_when_asked(tmp_path: Path) -> None:
    first = table(tmp_path / "in", {"title": [f"t{n}" for n in range(5)], "price": ["2.50"] * 5})
    build(str(first), tmp_path / "ds", BuildOptions(task=TASK))
    before = folder_bytes(tmp_path / "ds")
    other = first.with_name("other.csv")
    other.write_text("\n".join(first.read_text(encoding="utf-8").splitlines()[:4]), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"5 rows made from shop.csv \(csv\).*other.csv \(csv\).*--overwrite"):
        build(str(other), tmp_path / "ds", BuildOptions(task=TASK))
    assert folder_bytes(tmp_path / "ds") == before
    assert build(str(other), tmp_path / "ds", BuildOptions(task=TASK, overwrite=True)).kept == 3
    assert len(DatasetFolder.open(tmp_path / "ds")) == 3


def test_near_duplicates_that_would_join_everything_are_kept_apart(tmp_path: Path) -> None:
    """Receipts on white paper: alike at a glance, each another one."""
    folder = tmp_path / "in"
    folder.mkdir()
    draw = np.random.default_rng(0)
    rows = []
    for number in range(70):
        page = np.full((400, 300), 250, dtype=np.uint8)
        page[100:140, 40:260] = page[300:320, 60:200] = 120
        page[draw.integers(8, 390), draw.integers(8, 290)] = 245
        Image.fromarray(page).save(folder / f"{number}.png")
        rows.append(f"r{number},Receipt {number},{number}.50,{number}.png")
    path = folder / "receipts.csv"
    path.write_text("\n".join(["sku,title,price,photo", *rows]), encoding="utf-8")
    result = build(str(path), tmp_path / "ds", BuildOptions(task=TASK))
    assert min(result.splits.values()) >= 5
    assert any(finding.kind == "near_duplicates_apart" for finding in result.findings)


def test_a_split_without_rows_is_an_error_unless_asked_for(tmp_path: Path) -> None:
    source = table(
        tmp_path / "in", {"title": [f"t{n}" for n in range(40)], "price": ["2.50"] * 40, "maker": ["x"] * 40}
    )
    one_group = BuildOptions(task=TASK, group=GroupRule("maker"))
    with pytest.raises(DatasetError, match=r"split validation would have no row where its share of 40 rows is 4"):
        build(str(source), tmp_path / "ds", one_group)
    asked = BuildOptions(task=TASK, group=GroupRule("maker"), shares=SplitShares(1, 0, 0))
    assert build(str(source), tmp_path / "ds", asked).splits["train"] == 40
