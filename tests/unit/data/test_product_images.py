"""Several images of a product: in a cell, in columns, in rows below it. Each is a row, or named; none is lost."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.data.build.build_dataset import build
from phisight.data.build.finish.finalize import BuildResult
from phisight.data.build.plan.config import BuildOptions
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.sources.products.image_cells import images_in
from tests.helpers.images import encoded, smooth_image, write_images

IMAGES = [encoded(smooth_image(seed)) for seed in range(12)]


@pytest.mark.parametrize(
    ("cell", "images"),
    [
        (None, []), ("", []), ("  ", []), ("a.jpg", ["a.jpg"]), (" a.jpg ", ["a.jpg"]), ("[]", []),
        ("a.jpg;", ["a.jpg"]),
        ('["a.jpg", "b.jpg"]', ["a.jpg", "b.jpg"]), ("['a.jpg', 'b.jpg']", ["a.jpg", "b.jpg"]),
        ("('a.jpg', 'b.jpg')", ["a.jpg", "b.jpg"]),
        ('[{"url": "https://h/a"}, {"src": "b.jpg"}]', ["https://h/a", "b.jpg"]),
        ("a.jpg;b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg | b.PNG|", ["a.jpg", "b.PNG"]), ("a.jpg, b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg\nb.jpg", ["a.jpg", "b.jpg"]), ("https://h/a?x=1,https://h/b", ["https://h/a?x=1", "https://h/b"]),
        ("https://h/w_200,h_300/a.jpg", ["https://h/w_200,h_300/a.jpg"]),
        ("https://h/a;v=1.jpg", ["https://h/a;v=1.jpg"]),
        ("red, blue.jpg", ["red, blue.jpg"]), ("[draft] a.jpg", ["[draft] a.jpg"]), ("[broken", ["[broken"]),
        (["a.jpg", None, "b.jpg"], ["a.jpg", "b.jpg"]), ({"bytes": b"x", "path": "a"}, [{"bytes": b"x", "path": "a"}]),
        ({"bytes": None, "path": "a.jpg"}, ["a.jpg"]), (b"x", [b"x"]),
        ("[" * 5000, ["[" * 5000]), ("(" * 300, ["(" * 300]),
    ],
)  # fmt: skip
def test_the_images_in_a_cell(cell: Any, images: list[Any]) -> None:
    assert images_in(cell) == images


def of_each(folder: Path) -> dict[str, int]:
    """Rows of each title, all in one split."""
    rows = [{name.casefold(): cell for name, cell in row.items()} for row in DatasetFolder.open(folder).rows()]
    for title in {row["title"] for row in rows}:
        assert len({row["split"] for row in rows if row["title"] == title}) == 1, title
        assert len({row["group"] for row in rows if row["title"] == title}) == 1, title
    return dict(Counter(row["title"] for row in rows))


def cell_json(names: list[str]) -> str:
    return json.dumps(names)


WAYS = {"json": cell_json, "repr": repr, ";": ";".join, "|": " | ".join, ",": ", ".join}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("keyed", [True, False])
def test_lists_in_cells_are_rows(way: str, keyed: bool, tmp_path: Path) -> None:
    names = write_images(tmp_path, 10)
    lines = ["sku\ttitle\tprice\tphotos" if keyed else "title\tprice\tphotos"]
    for n in range(5):
        cell = WAYS[way](names[2 * n : 2 * n + 2]) if n else names[0]
        lines.append(f"{f'p{n}{chr(9)}' if keyed else ''}Thing {n}\t{n}.50\t{cell}")
    path = tmp_path / "t.tsv"
    path.write_text("\n".join([*lines, "broken line"]), encoding="utf-8")
    result = build(str(path), tmp_path / "ds")
    assert (result.read, result.kept, dict(result.rejected)) == (10, 9, {"malformed_row": 1})
    assert of_each(tmp_path / "ds") == {"Thing 0": 1, **{f"Thing {n}": 2 for n in range(1, 5)}}
    assert any("4 rows hold several images" in remark for remark in result.remarks)
    reject = json.loads((tmp_path / "ds" / "rejects.jsonl").read_text())
    assert reject["row"] == 6, "the row of the source, not of the images"
    assert sorted({row["source_row"] for row in DatasetFolder.open(tmp_path / "ds").rows()}) == [1, 2, 3, 4, 5]


def build_of(path: Path, folder: Path, **options: Any) -> BuildResult:
    return build(str(path), folder, BuildOptions(**options))


def test_images_per_key(tmp_path: Path) -> None:
    names = write_images(tmp_path, 12)
    path = tmp_path / "t.csv"
    rows = [f'p{n},Thing {n},{n}.50,"{names[3 * n]}|{names[3 * n + 1]}|{names[3 * n + 2]}"' for n in range(4)]
    path.write_text("\n".join(["sku,title,price,photo", *rows]))
    result = build_of(path, tmp_path / "ds", images_per_key=2)
    assert (result.read, result.kept, dict(result.rejected)) == (12, 8, {"further_image": 4})
    assert set(of_each(tmp_path / "ds").values()) == {2}


@pytest.mark.parametrize("header", ["image_1,image_2,image_10", "Image 1,Image 2,Image 3", "photo,photo2,photo3",
                                    "image_link,additional_image_link,additional_image_2"])  # fmt: skip
def test_numbered_columns(header: str, tmp_path: Path) -> None:
    names = write_images(tmp_path, 8)
    path = tmp_path / "t.csv"
    rows = [f"p{n},Thing {n},{n}.50,{names[2 * n]},{names[2 * n + 1]}," for n in range(4)]
    path.write_text("\n".join([f"sku,title,price,{header}", *rows]))
    result = build(str(path), tmp_path / "ds")
    assert (result.read, result.kept) == (8, 8)
    assert [guess for guess in result.guesses if guess.startswith("--image")] == [
        f"--image {name}" for name in header.split(",")
    ]
    assert set(of_each(tmp_path / "ds").values()) == {2}


def test_image_columns_that_are_not_used_are_said(tmp_path: Path) -> None:
    names = write_images(tmp_path, 8)
    path = tmp_path / "t.csv"
    rows = [f"p{n},Thing {n},{n}.50,{names[2 * n]},{names[2 * n + 1]}" for n in range(4)]
    path.write_text("\n".join(["sku,title,price,image,logo", *rows]))
    result = build(str(path), tmp_path / "ds")
    assert result.kept == 4
    assert any("no image of logo is used" in guess for guess in result.guesses)
    both = build_of(path, tmp_path / "both", image="image", further_images=("logo",))
    assert both.kept == 8


def test_shopify_s_export(tmp_path: Path) -> None:
    names = write_images(tmp_path, 8)
    lines = ["Handle,Title,Type,Option1 Value,Variant Price,Image Src,Image Position"]
    for n in range(4):
        lines.append(f"thing-{n},Thing {n},{('Hats', 'Bags')[n % 2]},S,{n}.50,{names[2 * n]},1")
        lines.append(f"thing-{n},,,,,{names[2 * n + 1]},2")
        lines.append(f"thing-{n},,,M,9.99,,")
    path = tmp_path / "products_export.csv"
    path.write_text("\n".join(lines))
    result = build(str(path), tmp_path / "ds")
    assert (result.read, result.kept, dict(result.rejected)) == (12, 8, {"no_image": 4})
    assert set(of_each(tmp_path / "ds").values()) == {2}
    data = DatasetFolder.open(tmp_path / "ds")
    assert data.card.key == "Handle"
    answers = {data.task.render(row) for row in data.rows()}
    assert "Product: Thing 1, Type: Bags, Variant Price: 1.5" in answers
    assert len(answers) == 4
    assert any("8 rows without a title belong to the product above" in remark for remark in result.remarks)


@pytest.mark.parametrize("kind", ["bytes", "struct", "text"])
def test_lists_of_parquet(kind: str, tmp_path: Path) -> None:
    write_images(tmp_path, 8)
    cells: dict[str, Any] = {
        "bytes": lambda n: IMAGES[n],
        "struct": lambda n: {"bytes": IMAGES[n], "path": None},
        "text": lambda n: f"photos/{n}.jpg",
    }
    rows = [
        {"images": [cells[kind](2 * n), cells[kind](2 * n + 1)], "title": f"T {n}", "price": n + 0.5} for n in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    result = build(str(tmp_path / "t.parquet"), tmp_path / "ds")
    assert (result.read, result.kept) == (8, 8)
    assert set(of_each(tmp_path / "ds").values()) == {2}


def test_lists_of_json_lines(tmp_path: Path) -> None:
    names = write_images(tmp_path, 8)
    rows = [{"images": names[2 * n : 2 * n + 2], "title": f"T {n}", "price": n + 0.5} for n in range(4)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert build(str(tmp_path / "t.jsonl"), tmp_path / "ds").kept == 8


@pytest.mark.parametrize("ends", [("jpg", "png"), ("front.jpg", "back.jpg")])
def test_two_images_in_a_sample(ends: tuple[str, str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for n in range(4):
            parts = {ends[0]: IMAGES[n], ends[1]: IMAGES[n + 4], "json": json.dumps({"title": f"T {n}"}).encode()}
            for end, data in parts.items():
                member = tarfile.TarInfo(f"{n}.{end}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    result = build(str(tmp_path / "a.tar"), tmp_path / "ds")
    assert (result.read, result.kept) == (8, 8)
    assert set(of_each(tmp_path / "ds").values()) == {2}
