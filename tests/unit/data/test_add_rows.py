"""Rows that are added to a finished data set: known groups keep their split, the old version stays."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import DatasetError, SettingsError
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.dataset.add_rows import add_rows, correct
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.leakage import find_leaks
from phisight.extraction.results import schema_of
from tests.helpers.images import encoded, smooth_image

TASK = Task.model_validate({"answer": "{title} costs {price}", "fields": {"title": "text", "price": "number"}})


def table(folder: Path, name: str, numbers: range, *, first_image: int = 0, keyed: bool = True) -> Path:
    """Two rows a product; every row its own image."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    lines = ["sku,title,price,photo,maker" if keyed else "title,price,photo,maker"]
    for n in numbers:
        image = first_image + n
        (folder / f"photos/{image}.jpg").write_bytes(encoded(smooth_image(image)))
        key = f"p{n // 2}," if keyed else ""
        lines.append(f'{key}Thing {n // 2},"€ {n // 2},50",photos/{image}.jpg,m')
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_known_groups_keep_their_split_and_the_old_version_stays(tmp_path: Path) -> None:
    first = table(tmp_path / "in", "shop.csv", range(40))
    build(str(first), tmp_path / "ds", BuildOptions(task=TASK, seed=3))
    old = DatasetFolder.open(tmp_path / "ds")
    before = content(tmp_path / "ds")
    more = table(tmp_path / "more", "june.csv", range(20, 80), first_image=100)
    result = add_rows(str(more), tmp_path / "ds")
    assert content(tmp_path / "ds") == before
    assert result.folder == tmp_path / "ds-2"
    assert (result.read, result.kept) == (100, 100)
    new = DatasetFolder.open(tmp_path / "ds-2")
    split = {row["sku"]: row["split"] for row in old.rows()}
    assert all(row["split"] == split.get(row["sku"], row["split"]) for row in new.rows())
    assert not find_leaks(new)
    assert {row["split"] for row in new.rows() if row["sku"] not in split} == {"train", "validation", "test"}
    assert {row["sku"]: row["price"] for row in new.rows()} == {f"p{n}": n + 0.5 for n in range(40)}
    assert (new.card.key, new.task) == ("sku", TASK)
    images = {row["image_sha256"] for row in old.rows()}
    assert images <= {row["image_sha256"] for row in new.rows()}
    third = add_rows(str(more), tmp_path / "ds-2", BuildOptions())
    assert third.folder.name == "ds-3"


def test_without_keys_rows_stay_rows(tmp_path: Path) -> None:
    build(str(table(tmp_path / "in", "a.csv", range(20), keyed=False)), tmp_path / "ds", BuildOptions(task=TASK))
    more = table(tmp_path / "more", "b.csv", range(10), first_image=50, keyed=False)
    result = add_rows(str(more), tmp_path / "ds")
    assert (result.kept, len({row["source_row"] for row in DatasetFolder.open(result.folder).rows()})) == (30, 30)


def test_a_group_of_the_old_data_set_holds_new_rows(tmp_path: Path) -> None:
    first = table(tmp_path / "in", "a.csv", range(40))
    build(str(first), tmp_path / "ds", BuildOptions(task=TASK, group=GroupRule("title", ("Thing (.)",))))
    more = table(tmp_path / "more", "b.csv", range(40, 60), first_image=50)
    new = DatasetFolder.open(add_rows(str(more), tmp_path / "ds").folder)
    for digit in "23":  # Thing 20 to 29 belong to Thing 2
        assert len({row["split"] for row in new.rows() if row["title"].startswith(f"Thing {digit}")}) == 1


def test_what_cannot_be_added_to_is_one_line(tmp_path: Path) -> None:
    path = table(tmp_path / "in", "a.csv", range(10))
    with pytest.raises(DatasetError, match=r"there is no folder .*nothing; .*data build SOURCE --out"):
        add_rows(str(path), tmp_path / "nothing")
    with pytest.raises(DatasetError, match="is not a data set folder"):
        add_rows(str(path), tmp_path / "in")
    build(str(path), tmp_path / "ds", BuildOptions(task=TASK))
    with pytest.raises(SettingsError, match="leave --task"):
        add_rows(str(path), tmp_path / "ds", BuildOptions(task=TASK))
    other = tmp_path / "in" / "other.csv"
    other.write_text("sku,name,photo\np1,x,photos/1.jpg\n")
    with pytest.raises(Exception, match="needs column title, price"):
        add_rows(str(other), tmp_path / "ds")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "in"]


def test_corrected_answers_become_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(str(table(tmp_path / "in", "a.csv", range(20))), tmp_path / "ds", BuildOptions(task=TASK))
    (tmp_path / "work/new").mkdir(parents=True)
    for n in range(4):
        (tmp_path / f"work/new/{n}.jpg").write_bytes(encoded(smooth_image(200 + n)))
    names = schema_of(TASK).names
    lines = [",".join(names)]
    for n in range(4):
        known = {"image": f"new/{n}.jpg", "title": f"Right {n}", "price": f"{n}.25", "text": "as the model wrote it"}
        known |= {"title": ""} if n == 3 else {}
        lines.append(",".join(known.get(name, "") for name in names))
    review = tmp_path / "fields.review.csv"
    review.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "work")
    result = correct(tmp_path / "ds", review)
    assert (result.kept, dict(result.rejected)) == (23, {"empty_field": 1})
    rows = {row["title"]: row for row in DatasetFolder.open(result.folder).rows()}
    assert (rows["Right 2"]["price"], rows["Right 2"]["sku"]) == (2.25, "new/2.jpg")
    assert "confidence" not in rows["Right 2"]


def test_marks_against_spreadsheets_are_no_part_of_a_corrected_row(tmp_path: Path) -> None:
    build(str(table(tmp_path / "in", "a.csv", range(20))), tmp_path / "ds", BuildOptions(task=TASK))
    (tmp_path / "in/-new.jpg").write_bytes(encoded(smooth_image(300)))
    review = tmp_path / "r.csv"
    review.write_text("image,title,price\n'-new.jpg,'=Red,2.5\n", encoding="utf-8")
    result = correct(tmp_path / "ds", review, BuildOptions(image_root=tmp_path / "in"))
    assert {row["title"]: row["sku"] for row in DatasetFolder.open(result.folder).rows()}["=Red"] == "-new.jpg"


def test_the_command_may_widen_the_limits_of_the_data_set(tmp_path: Path) -> None:
    build(str(table(tmp_path / "in", "a.csv", range(20))), tmp_path / "ds", BuildOptions(task=TASK))
    (tmp_path / "in/flat.png").write_bytes(encoded(smooth_image(90, (40, 5)), "PNG"))
    review = tmp_path / "r.csv"
    review.write_text("image,title,price\nflat.png,Right,1.5\n")
    arguments = ["data", "correct", str(tmp_path / "ds"), str(review), "--image-root", str(tmp_path / "in")]
    for number, (more, kept) in enumerate((([], 20), (["--min-side", "20"], 20), (["--min-side", "4"], 21)), start=2):
        done = CliRunner().invoke(app, [*arguments, *more])
        assert done.exit_code == 0, done.output
        assert len(DatasetFolder.open(tmp_path / f"ds-{number}")) == kept


def test_the_commands(tmp_path: Path) -> None:
    first = table(tmp_path / "in", "a.csv", range(20))
    arguments = ["data", "build", str(first), "--out", str(tmp_path / "ds"), "--field", "title:text"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    more = table(tmp_path / "more", "b.csv", range(20, 30))
    done = CliRunner().invoke(app, ["data", "build", str(more), "--add", "--out", str(tmp_path / "ds")])
    assert done.exit_code == 0, done.output
    assert len(DatasetFolder.open(tmp_path / "ds-2")) == 30
    review = tmp_path / "r.csv"
    review.write_text("image,title,error\nphotos/1.jpg,Corrected,\n")
    arguments = ["data", "correct", str(tmp_path / "ds"), str(review), "--image-root", str(tmp_path / "in")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert len(DatasetFolder.open(tmp_path / "ds-3")) == 21


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_added_images_as_bytes_are_no_column_of_the_table(tmp_path: Path, kind: pa.DataType) -> None:
    build(str(table(tmp_path / "in", "a.csv", range(20))), tmp_path / "ds", BuildOptions(task=TASK))
    rows = {"sku": [f"n{n}" for n in range(4)], "title": ["Lamp"] * 4, "price": [1.5] * 4}
    photos = pa.array([encoded(smooth_image(60 + n)) for n in range(4)], kind)
    pq.write_table(pa.table({**rows, "photo": photos}), tmp_path / "new.parquet")
    new = DatasetFolder.open(add_rows(str(tmp_path / "new.parquet"), tmp_path / "ds").folder)
    assert len(new) == 24
    assert new.table["photo"].type == pa.string()
    assert [row["photo"] for row in new.rows() if row["title"] == "Lamp"] == [None] * 4
