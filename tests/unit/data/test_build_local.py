"""A build from local files: everything that is read is kept or rejected, and the folder says so."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.errors import DatasetError, MissingImageError, SettingsError, SourceError, TaskError
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import load_image
from tests.helpers.images import encoded, smooth_image, write_images

TASK = Task.model_validate({"answer": "{title} costs {price}", "fields": {"title": "text", "price": "number"}})
HEADER = ["code", "title", "price", "photo"]


def write_csv(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def rejects(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    source = tmp_path / "shop"
    names = write_images(source, 12)
    rows = [[f"{at:05d}", f"Thing {at}", f"{10 + at}.50", name] for at, name in enumerate(names)]
    return write_csv(source / "things.csv", rows)


def test_csv_becomes_a_data_set(table: Path, tmp_path: Path) -> None:
    result = build(str(table), tmp_path / "ds", BuildOptions(task=TASK))
    assert (result.read, result.kept, result.rejected.total()) == (12, 12, 0)
    data = DatasetFolder.open(tmp_path / "ds")
    assert len(data) == 12
    assert sum(len(data.rows(name)) for name in data.split_names) == 12
    first = data.rows()[0]
    assert first["code"] == "00000", "text keys stay text"
    assert first["price"] == 10.5
    assert data.task.render(first) == "Thing 0 costs 10.5"
    assert load_image(data.image_path(first)).size == (96, 64)


def test_guesses_are_made_and_said(table: Path, tmp_path: Path) -> None:
    result = build(str(table), tmp_path / "ds")
    assert result.guesses[:2] == ["--image photo", "--key code"]
    assert "--field price:number" in result.guesses


def test_bad_rows_are_named_and_counted(tmp_path: Path) -> None:
    names = write_images(tmp_path, 8)
    (tmp_path / "page.jpg").write_bytes(b"<!DOCTYPE html><html></html>")
    (tmp_path / "half.jpg").write_bytes(encoded(smooth_image(9))[:-700])
    (tmp_path / "empty.jpg").write_bytes(b"")
    good = [[f"k{at}", "T", "1", name] for at, name in enumerate(names)]
    bad = [
        ["a", "T", "cheap", names[0]],
        ["b", "", "1", names[0]],
        ["", "T", "1", names[0]],
        ["d", "T", "1", ""],
        ["e", "T", "1", "nowhere.jpg"],
        ["f", "T", "1", "page.jpg"],
        ["g", "T", "1", "half.jpg"],
        ["h", "T", "1", "empty.jpg"],
        ["i", "T", "1", "../../../../../../etc/passwd"],
        ["j", "T", "1", "file:///etc/passwd"],
        ["k", "T", "1", names[0], "one too many"],
        ["l", "a costs b", "1", names[0]],
    ]
    table = write_csv(tmp_path / "t.csv", good + bad)
    result = build(str(table), tmp_path / "ds", BuildOptions(task=TASK))
    assert result.read == 20
    assert result.kept + result.rejected.total() == 20
    found = {line["key"]: line["kind"] for line in rejects(tmp_path / "ds")}
    assert found.pop("") in ("no_key", "malformed_row")
    assert found == {
        "a": "bad_value", "b": "empty_field", "d": "no_image", "e": "missing_file", "f": "html", "g": "truncated",
        "h": "empty_body", "i": "outside_root", "j": "outside_root", "l": "unwritable_answer",
    }  # fmt: skip
    assert result.rejected["malformed_row"] == 1
    wrong = "field 'price' should be a number but 1 of 20 rows hold something else (row 9: 'cheap')"
    assert result.remarks == [f"{wrong}; {tmp_path / 'ds' / 'rejects.jsonl'} lists them"]


def test_a_column_of_the_wrong_type_stops_the_build_with_count_and_rows(tmp_path: Path) -> None:
    names = write_images(tmp_path, 3)
    table = write_csv(tmp_path / "t.csv", [["k", "T", "on request", name] for name in names])
    with pytest.raises(TaskError, match=r"'price' should be a number but 3 of 3 rows .*row 1: 'on request'"):
        build(str(table), tmp_path / "ds", BuildOptions(task=TASK))


def test_nothing_kept_is_an_error_that_says_why(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", [["k", "T", "1", "gone.jpg"]])
    with pytest.raises(DatasetError, match=r"none of 1 rows could be kept \(missing_file 1\)"):
        build(str(table), tmp_path / "ds", BuildOptions(task=TASK))


def test_building_twice_gives_the_same_bytes(table: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(str(table), tmp_path / name, BuildOptions(task=TASK))
    build(str(table), tmp_path / "two", BuildOptions(task=TASK))
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_types_of_parquet_are_kept(tmp_path: Path) -> None:
    names = write_images(tmp_path, 6)
    code = pa.array([str(n) for n in range(6)])
    values = {"code": code, "title": code, "price": pa.array(range(6), pa.int64()), "photo": names, "n": [1.5] * 6}
    pq.write_table(pa.table(values), tmp_path / "t.parquet")
    build(str(tmp_path / "t.parquet"), tmp_path / "ds", BuildOptions(task=TASK))
    schema = DatasetFolder.open(tmp_path / "ds").table.schema
    assert schema.field("price").type == pa.int64()
    assert schema.field("n").type == pa.float64()


def test_images_inside_a_parquet(tmp_path: Path) -> None:
    images = [{"bytes": encoded(smooth_image(n), "PNG"), "path": "../x.png"} for n in range(5)]
    values = {"sku": [f"{n}" for n in range(5)], "title": ["T"] * 5, "price": [1.0] * 5, "image": images}
    pq.write_table(pa.table(values), tmp_path / "t.parquet")
    build(str(tmp_path / "t.parquet"), tmp_path / "ds", BuildOptions(task=TASK))
    data = DatasetFolder.open(tmp_path / "ds")
    assert "image" not in data.table.column_names
    assert {row["image_format"] for row in data.rows()} == {"png"}


def test_json_lines_with_broken_lines(tmp_path: Path) -> None:
    names = write_images(tmp_path, 4)
    lines = [json.dumps({"id": f"00{n}", "title": "T", "price": n, "image": name}) for n, name in enumerate(names)]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, "{broken", "[1]", ""]))
    result = build(str(tmp_path / "t.jsonl"), tmp_path / "ds", BuildOptions(task=TASK))
    assert (result.kept, result.rejected["malformed_row"]) == (4, 2)
    row = DatasetFolder.open(tmp_path / "ds").rows()[1]
    assert (row["id"], row["price"]) == ("001", 1)
    assert row["source_image"] == names[1], "a column called image would hide the image from the imagefolder loader"


def test_folder_names_are_categories(tmp_path: Path) -> None:
    for n in range(8):
        path = tmp_path / "shop" / ("hats" if n % 2 else "bags") / f"thing {n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth_image(n)))
    build(str(tmp_path / "shop"), tmp_path / "ds")
    data = DatasetFolder.open(tmp_path / "ds")
    assert data.task.render(data.rows()[0]) == "Category: bags"
    asked = Task.model_validate({"answer": "{name}", "fields": {"name": "text"}})
    build(str(tmp_path / "shop"), tmp_path / "asked", BuildOptions(task=asked))
    assert DatasetFolder.open(tmp_path / "asked").task.names == ["name"]
    assert data.card.key == "path"


def test_imagefolder_with_metadata(tmp_path: Path) -> None:
    names = write_images(tmp_path, 4)
    write_csv(tmp_path / "metadata.csv", [[n, "T", "3"] for n in names], ["file_name", "title", "price"])
    build(str(tmp_path), tmp_path / "ds", BuildOptions(task=TASK))
    data = DatasetFolder.open(tmp_path / "ds")
    assert [row["source_row"] for row in data.rows()] == [1, 2, 3, 4]
    assert data.card.key == "source_row"


def test_group_rules_keep_products_together(tmp_path: Path) -> None:
    names = write_images(tmp_path, 40)
    rows = [[f"P{at // 4}-{at % 4}", f"T{at}", "1", name] for at, name in enumerate(names)]
    table = write_csv(tmp_path / "t.csv", rows)
    options = BuildOptions(task=TASK, group=GroupRule(patterns=(r"^(P\d+)-",)))
    build(str(table), tmp_path / "ds", options)
    data = DatasetFolder.open(tmp_path / "ds")
    by_product: dict[str, set[str]] = {}
    for row in data.rows():
        by_product.setdefault(row["code"].split("-")[0], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_product.values())
    assert set(data.split_names) == {"train", "validation", "test"}


def test_a_foreign_folder_is_left_alone(table: Path, tmp_path: Path) -> None:
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "thesis.docx").write_text("years of work")
    with pytest.raises(DatasetError, match=r"already holds 'thesis\.docx'"):
        build(str(table), tmp_path / "ds", BuildOptions(task=TASK))


def test_unknown_columns_and_sources(table: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--image 'pic' is no column; the columns are code, title"):
        build(str(table), tmp_path / "ds", BuildOptions(image="pic"))
    with pytest.raises(SourceError, match="did you mean hf:owner/name"):
        build("owner/name", tmp_path / "ds")
    with pytest.raises(SettingsError, match="no regular expression"):
        GroupRule(patterns=("(",))


def test_damaged_folders_say_so(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a data set folder"):
        DatasetFolder.open(tmp_path)
    build(str(table), tmp_path / "ds", BuildOptions(task=TASK))
    data = DatasetFolder.open(tmp_path / "ds")
    row = data.rows()[3]
    data.image_path(row).unlink()
    with pytest.raises(MissingImageError, match="row '00003'"):
        data.image_path(row)
    with pytest.raises(MissingImageError, match="leads out"):
        data.image_path({**row, "file_name": "../../etc/passwd"})
    with pytest.raises(DatasetError, match="no rows in split 'dev'"):
        data.rows("dev")
    (tmp_path / "ds" / ".build").mkdir()
    assert len(DatasetFolder.open(tmp_path / "ds")) == 12, "what stands there is whole until it is replaced"
    (tmp_path / "ds" / ".build" / "publishing").touch()
    with pytest.raises(DatasetError, match="not finished"):
        DatasetFolder.open(tmp_path / "ds")


def test_the_library_opens_it_as_an_imagefolder(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    build(str(table), tmp_path / "ds", BuildOptions(task=TASK))
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "ds"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"][0]["image"].size == (96, 64)
    assert loaded["train"][0]["code"] == "00000"
