"""Folders as the hub, shops and Keras lay them out: splits are honored, tables are found, no file name is a title."""

from __future__ import annotations

import datetime
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.errors import SettingsError, SourceError
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.sources.layouts.open import open_source
from phisight.data.sources.split_names import split_of_name, splits_of
from tests.helpers.images import encoded, smooth_image

SPLITS = {"train": 4, "validation": 2, "test": 2}
IMAGES = [encoded(smooth_image(seed)) for seed in range(12)]


def put(path: Path, number: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(IMAGES[number])
    return path.name


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines), encoding="utf-8")


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def numbered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(split, at) for at, split in enumerate(split for split, count in counts.items() for _ in range(count))]


def metadata_in_each(folder: Path, *names: str) -> None:
    """``train/metadata.csv``, ``test/metadata.jsonl`` ..., file names beside the table."""
    for at, split in enumerate(SPLITS):
        own = [n for name, n in numbered(SPLITS) if name == split]
        rows: list[dict[str, object]] = [
            {"file_name": put(folder / split / f"{n}.jpg", n), "title": f"Thing {n}", "price": n + 0.5} for n in own
        ]
        name = names[at % len(names)]
        {".csv": write_csv, ".jsonl": write_jsonl, ".parquet": write_parquet}[Path(name).suffix](
            folder / split / name, rows
        )


def embedded(numbers: list[int]) -> list[dict[str, object]]:
    return [
        {"image": {"bytes": IMAGES[n], "path": f"{n}.jpg"}, "title": f"Thing {n}", "price": n + 0.5} for n in numbers
    ]


def parquet_shards(folder: Path, name: str) -> None:
    for split in SPLITS:
        own = [n for found, n in numbered(SPLITS) if found == split]
        for at, part in enumerate((own[:1], own[1:])):
            write_parquet(folder / name.format(split=split, at=at), embedded(part))


def a_table_each(folder: Path) -> None:
    for split, name in (("train", "shop_train.csv"), ("validation", "val.csv"), ("test", "shop_test.jsonl")):
        own = [n for found, n in numbered(SPLITS) if found == split]
        rows: list[dict[str, object]] = [
            {"sku": f"p{n}", "title": f"Thing {n}", "price": n + 0.5, "photo": f"img/{put(folder / f'img/{n}.jpg', n)}"}
            for n in own
        ]
        (write_csv if name.endswith("csv") else write_jsonl)(folder / name, rows)


def shards(folder: Path) -> None:
    for split in SPLITS:
        with tarfile.open(folder / f"{split}-00000.tar", "w") as tar:
            for n in (n for found, n in numbered(SPLITS) if found == split):
                add(tar, f"{n}.jpg", IMAGES[n])
                add(tar, f"{n}.json", json.dumps({"title": f"Thing {n}", "price": n + 0.5}).encode())


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "metadata.csv": lambda folder: metadata_in_each(folder, "metadata.csv"),
    "mixed metadata": lambda folder: metadata_in_each(folder, "metadata.csv", "metadata.jsonl", "metadata.parquet"),
    "below data": lambda folder: metadata_in_each(folder / "data", "metadata.jsonl"),
    "parquet shards": lambda folder: parquet_shards(folder, "{split}-0000{at}-of-00002.parquet"),
    "parquet below data": lambda folder: parquet_shards(folder, "data/{split}-0000{at}-of-00002.parquet"),
    "parquet in folders": lambda folder: parquet_shards(folder, "default/{split}/000{at}.parquet"),
    "a table a split": a_table_each,
    "shards": shards,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_splits_of_a_layout_are_honored(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    LAYOUTS[layout](folder)
    result = build(str(folder), tmp_path / "ds")
    assert result.splits == SPLITS
    rows = DatasetFolder.open(tmp_path / "ds").rows()
    assert {row["title"]: row["split"] for row in rows} == {f"Thing {n}": split for split, n in numbered(SPLITS)}
    assert any("--split-column split (train 4, validation 2, test 2)" in guess for guess in result.guesses)
    anew = build(str(folder), tmp_path / "anew", BuildOptions(own_split=False))
    assert (anew.kept, anew.splits["train"]) == (8, 6)


def test_folders_of_splits_and_classes(tmp_path: Path) -> None:
    """The official layout of many sets: the category alone is the task, the test folder is not trained on."""
    folder = tmp_path / "shop"
    for split, n in numbered({"train": 6, "validation": 3, "test": 3}):
        put(folder / split / ("dress", "shirt")[n % 2] / f"06a00c0f-5f9a-{n}.JPG", n)
    result = build(str(folder), tmp_path / "ds")
    data = DatasetFolder.open(tmp_path / "ds")
    assert result.splits == {"train": 6, "validation": 3, "test": 3}
    assert sorted({data.task.render(row) for row in data.rows()}) == ["Category: dress", "Category: shirt"]
    assert all(row["path"].startswith(row["split"]) for row in data.rows())


def test_images_without_folders_ask_for_a_field(tmp_path: Path) -> None:
    for n in range(3):
        put(tmp_path / "shop" / f"red-hat-{n}.jpg", n)
    with pytest.raises(SettingsError, match=r"name the fields with --field NAME:KIND"):
        build(str(tmp_path / "shop"), tmp_path / "ds")


@pytest.mark.parametrize("place", [".cache/shop", "a/../shop", ".hidden/.deep/shop"])
def test_a_source_in_a_hidden_folder_or_below_dots(place: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for n in range(4):
        put(tmp_path / place / ("dress", "shirt")[n % 2] / f"{n}.jpg", n)
    put(tmp_path / place / ".thumbnails" / "5.jpg", 5)
    assert build(str(tmp_path / place), tmp_path / "ds").read == 4


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "shop") + b"/caf\xe9"
    os.makedirs(folder)  # noqa: PTH103 - bytes
    for n in range(3):
        Path(os.fsdecode(folder + b"/h\xfct%d.jpg" % n)).write_bytes(IMAGES[n])
    source = open_source(str(tmp_path / "shop"))
    (batch,) = source.batches()
    assert batch.table["path"].to_pylist() == [f"caf%E9/h%FCt{n}.jpg" for n in range(3)]
    assert set(batch.table["category"].to_pylist()) == {"café"}
    assert any("3 names of files are no UTF-8" in note for note in source.notes)


def test_one_table_beside_its_images(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"sku": f"p{n}", "title": f"T {n}", "price": n, "photo": f"img/{put(tmp_path / f'shop/img/{n}.jpg', n)}"}
        for n in range(4)
    ]
    write_csv(tmp_path / "shop" / "products.csv", rows)
    assert build(str(tmp_path / "shop"), tmp_path / "ds").kept == 4
    write_csv(tmp_path / "shop" / "other.csv", rows)
    with pytest.raises(SourceError, match=r"several tables \(other.csv, products.csv\)"):
        open_source(str(tmp_path / "shop"))


def test_numbers_of_class_names_become_the_names(tmp_path: Path) -> None:
    features = {"label": {"names": ["dress", "shirt"], "_type": "ClassLabel"}, "title": {"_type": "Value"}}
    table = pa.table({"label": [1, 0, -1], "title": ["a", "b", "c"]}).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(str(tmp_path / "t.parquet"))
    (batch,) = source.batches()
    assert batch.table["label"].to_pylist() == ["shirt", "dress", None]
    assert "2 names" in source.notes[0]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002", "train"), ("val2017", "validation"), ("Test", "test"), ("shop_dev", "validation"),
        ("hold-out", "test"), ("trainers", None), ("contest", None), ("0001", None), ("", None),
    ],
)  # fmt: skip
def test_what_names_a_split(name: str, split: str | None) -> None:
    assert split_of_name(name) == split


@pytest.mark.parametrize("names", [["train"], ["train", "cars"], ["test", "val"], []])
def test_names_that_are_no_split_of_a_whole(names: list[str]) -> None:
    assert splits_of(names) is None


def samples(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add(tar, name, data)
    return path


def fields(n: int) -> bytes:
    return json.dumps({"title": f"Thing {n}", "price": n + 0.5, "more": {"color": "red"}}).encode()


def test_dotted_names_and_members_apart(tmp_path: Path) -> None:
    dotted = [(f"v1.5_{n}{end}", data) for n in range(4) for end, data in ((".jpg", IMAGES[n]), (".json", fields(n)))]
    apart = [(f"{n}.jpg", IMAGES[n]) for n in range(4)] + [(f"{n}.json", fields(n)) for n in range(4)]
    for name, members in (("dotted", dotted), ("apart", apart)):
        result = build(str(samples(tmp_path / f"{name}.tar", members)), tmp_path / name)
        assert (result.read, result.kept) == (4, 4)
        assert DatasetFolder.open(tmp_path / name).rows()[0]["more.color"] == "red"


def test_members_that_are_not_used_are_said(tmp_path: Path) -> None:
    members = [
        (f"{n}.{end}", data)
        for n in range(3)
        for end, data in (("jpg", IMAGES[n]), ("mask.png", IMAGES[0]), ("mp3", b"x"), ("json", fields(n)))
    ]
    source = open_source(str(samples(tmp_path / "a.tar", members)))
    assert source.schema.field("image").type == pa.binary()
    assert sorted(source.notes) == ["3 members *.mask.png are not used", "3 members *.mp3 are not used"]


def test_days_of_one_table_beside_texts_of_another(tmp_path: Path) -> None:
    """A column that is text in one table and days in the other holds days as they are written, not JSON of them."""
    days = {"made": [datetime.date(2024, 1, 31)], "at": [datetime.datetime(2024, 1, 31, 8, 30)], "on": [True]}
    pq.write_table(pa.table(days), tmp_path / "train.parquet")
    texts = {"made": ["31.1.2024"], "at": ["noon"], "on": ["yes"]}
    pq.write_table(pa.table(texts), tmp_path / "test.parquet")
    rows = [row for batch in open_source(str(tmp_path)).batches() for row in batch.table.to_pylist()]
    assert {"made": "2024-01-31", "at": "2024-01-31 08:30:00", "on": "true", "split": "train"} in rows
    assert {"made": "31.1.2024", "at": "noon", "on": "yes", "split": "test"} in rows


def a_table_beside(folder: Path) -> None:
    rows: list[dict[str, object]] = [
        {"sku": f"p{n}", "title": f"Thing {n}", "price": n + 0.5, "photo": put(folder / f"{n}.jpg", n)}
        for n in range(8)
    ]
    write_csv(folder / "products.csv", rows)


def classes(folder: Path) -> None:
    for n in range(8):
        put(folder / "ab"[n % 2] / f"{n}.jpg", n)


def a_folder_with_all(folder: Path) -> None:
    a_table_beside(folder / "shop")


BESIDE = {**LAYOUTS, "a table": a_table_beside, "classes": classes, "a folder in it": a_folder_with_all}


@pytest.mark.parametrize("layout", BESIDE)
@pytest.mark.parametrize("places", [["ds"], ["data/ds"], ["ds", "deep/er/ds-2"]])
def test_built_data_sets_below_a_folder_are_left_out_and_named(layout: str, places: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    BESIDE[layout](folder)
    before = open_source(str(folder))
    rows = [row for batch in before.batches() for row in batch.table.to_pylist()]
    for place in places:
        build(str(folder), folder / place)
    again = open_source(str(folder))
    assert [row for batch in again.batches() for row in batch.table.to_pylist()] == rows
    assert again.description == before.description
    remarks = build(str(folder), folder / places[0]).remarks
    assert any("no part of the source" in remark and all(place in remark for place in places) for remark in remarks)


def test_a_folder_that_holds_nothing_but_built_data_sets_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    a_table_beside(tmp_path / "in")
    build(str(tmp_path / "in"), tmp_path / "sets" / "ds")
    with pytest.raises(SourceError, match=r"no table and no image beside built data sets \(ds\)"):
        open_source(str(tmp_path / "sets"))
