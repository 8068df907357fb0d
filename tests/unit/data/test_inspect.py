"""The data set page: made of the folder alone, fetches nothing, runs nothing from the data."""

import re
from pathlib import Path

import pytest

from phisight.core.geometry import image_tokens
from phisight.data.build.build_dataset import build
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.inspect import Spread, describe, page, text
from tests.helpers.images import encoded, smooth_image


@pytest.fixture
def data(tmp_path: Path) -> DatasetFolder:
    rows = ["sku,title,category,price,photo"]
    for n in range(30):
        (tmp_path / f"{n}.jpg").write_bytes(encoded(smooth_image(n, (400, 300) if n % 2 else (90, 90))))
        rows.append(f"k{n},<x onclick=alert({n})>hat,{'hats' if n % 3 else 'bags'},{n + 1},{n}.jpg")
    rows += ["x1,T,hats,1,gone.jpg", "x2,,hats,1,0.jpg", "x3,T,hats,-5,0.jpg"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    build(str(tmp_path / "t.csv"), tmp_path / "ds")
    return DatasetFolder.open(tmp_path / "ds")


def test_the_numbers_are_the_table_s(data: DatasetFolder) -> None:
    found = describe(data)
    assert (found.rows, found.rejected) == (31, 2)
    assert found.rejects == {"missing_file": 1, "empty_field": 1}
    assert [(line.name, line.rows) for line in found.categories] == [("hats", 21), ("bags", 10)]
    assert found.prices is not None
    assert (found.prices.low, found.prices.high) == (-5, 30)
    assert found.tokens[16].high == image_tokens(90, 90, 16)
    assert found.tokens[16].low == min(image_tokens(90, 90, 16), image_tokens(400, 300, 16))
    assert {finding["kind"] for finding in found.findings} >= {"price_not_positive", "exact_duplicates"}
    assert found.same_images == 2


def test_the_page_is_self_contained_and_harmless(data: DatasetFolder, tmp_path: Path) -> None:
    page(data, describe(data), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert html.count("<img ") == 31
    assert "<x onclick" not in html
    assert "&lt;x onclick=alert(1)&gt;" in html
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', html)
    assert "there is no file" in html


def test_the_text_holds_the_same(data: DatasetFolder) -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=(data.path.parent / "out.txt").open("w"))
    console.print(text(describe(data)))
    console.file.close()
    shown = console.export_text()
    assert "31 rows" in shown
    assert re.search(r"hats\s+│ 21", shown)
    assert "missing_file" in shown


def test_spread() -> None:
    assert Spread.of([3]) == Spread(1, 3, 3, 3, 3, 3)
    assert Spread.of([1, 2, 3, 4, 5]) == Spread(5, 1, 2, 3, 4, 5)
