"""Learning from tables of every kind: structure kept, nothing copied, bad input named."""

from __future__ import annotations

import datetime
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phisight.core.dataset_folder import METADATA, REJECTS, DatasetCard
from phisight.core.errors import SampleError, SourceError
from phisight.core.task import Task
from phisight.sample.card import SampleCard
from phisight.sample.catalogue.presets import preset
from phisight.sample.like.imitate import imitate, task_for
from phisight.sample.like.real_table import RealTable, read_table
from phisight.sample.like.table_model import TableModel
from phisight.sample.like.title_model import TextModel, normal

SMALL = preset("demo", smallest=48, largest=64)


def price_list(rows: int = 400, seed: int = 0) -> dict[str, list[Any]]:
    """A table with a hierarchy, a currency, discounts and codes."""
    rng = np.random.default_rng(seed)
    tree = [("WOMEN", "BAGS"), ("WOMEN", "COATS"), ("WOMEN", "HATS"), ("MEN", "BELTS"), ("MEN", "SUITS")]
    pick = rng.choice(5, size=rows, p=[0.35, 0.25, 0.2, 0.15, 0.05])
    full = np.round(np.exp(np.array([6.5, 7.3, 5.4, 5.7, 7.6])[pick] + 0.25 * rng.normal(size=rows)) / 10) * 10
    sold = np.where(rng.random(rows) < 0.3, np.round(full * rng.choice([0.5, 0.7], size=rows)), full)
    words = ("Small", "Belted", "Wool", "Leather", "Classic", "Striped", "Long", "Soft")
    return {
        "sku": [f"KX-{number:06d}" for number in rng.permutation(900_000)[:rows]],
        "title": [f"{words[rng.integers(8)]} {words[rng.integers(8)]} {tree[each][1].title()[:-1]}" for each in pick],
        "department": [tree[each][0] for each in pick],
        "category": [tree[each][1] for each in pick],
        "full_price": full.tolist(),
        "price": sold.tolist(),
        "price_eur": np.round(sold * 0.913, 2).tolist(),
        "reduced": (sold < full).astype(int).tolist(),
    }


def real_table(columns: dict[str, list[Any]]) -> RealTable:
    return RealTable(columns, len(next(iter(columns.values()))))


def test_rules_of_the_table_are_found_and_kept() -> None:
    model = TableModel(real_table(price_list()))
    assert model.rules.parents == {"category": "department"}
    assert [(rate.source, rate.target) for rate in model.rules.rates] == [("price", "price_eur")]
    assert [flag.column for flag in model.rules.flags] == ["reduced"]
    drawn = model.draw(1000, seed=3)
    full, sold, euro = (np.array(drawn[name]) for name in ("full_price", "price", "price_eur"))
    assert np.all(sold <= full)
    assert np.allclose(euro, sold * 0.913, atol=0.0051)
    assert ((sold < full).astype(int) == np.array(drawn["reduced"])).all()
    above = defaultdict(set)
    for fine, coarse in zip(drawn["category"], drawn["department"], strict=True):
        above[fine].add(coarse)
    assert {fine: coarse.pop() for fine, coarse in above.items()} == {
        "BAGS": "WOMEN", "COATS": "WOMEN", "HATS": "WOMEN", "BELTS": "MEN", "SUITS": "MEN",
    }  # fmt: skip


def test_marginals_and_the_price_within_a_category_are_alike() -> None:
    columns = price_list(2000)
    drawn = TableModel(real_table(columns)).draw(2000, seed=1)
    real, made = Counter(columns["category"]), Counter(drawn["category"])
    assert all(abs(real[name] - made[name]) <= 3 for name in real)
    for name in real:
        mine = np.median([p for p, c in zip(drawn["full_price"], drawn["category"], strict=True) if c == name])
        theirs = np.median([p for p, c in zip(columns["full_price"], columns["category"], strict=True) if c == name])
        assert mine == pytest.approx(theirs, rel=0.08)
    assert np.mean(np.array(drawn["full_price"]) % 10 == 0) > 0.99


def test_nothing_real_is_copied() -> None:
    columns = price_list(600)
    drawn = TableModel(real_table(columns)).draw(1500, seed=5)
    assert not {normal(title) for title in columns["title"]} & {normal(title) for title in drawn["title"]}
    assert not set(columns["sku"]) & set(drawn["sku"])
    assert len(set(drawn["sku"])) == 1500
    assert all(code.startswith("KX-") and len(code) == 9 for code in drawn["sku"])
    words = {word for title in columns["title"] for word in title.split()}
    assert {word for title in drawn["title"] for word in title.split()} <= words


def test_a_category_of_one_row_is_not_handed_on() -> None:
    columns = price_list(300)
    columns["category"][7], columns["department"][7] = "ONE OF A KIND", "MEN"
    drawn = TableModel(real_table(columns)).draw(3000, seed=0)
    assert "ONE OF A KIND" not in drawn["category"]


def test_addresses_follow_code_and_title() -> None:
    columns = price_list(200)
    columns["url"] = [
        f"https://shop.real.test/us/{title.lower().replace(' ', '-')}-p{code}"
        for title, code in zip(columns["title"], columns["sku"], strict=True)
    ]
    drawn = TableModel(real_table(columns)).draw(50, seed=0)
    for url, title, code in zip(drawn["url"], drawn["title"], drawn["sku"], strict=True):
        assert url == f"https://shop.example/us/{title.lower().replace(' ', '-')}-p{code}"


def test_missing_cells_stay_as_frequent_and_together() -> None:
    columns = price_list(1000)
    for row in range(0, 1000, 5):
        columns["price_eur"][row] = columns["full_price"][row] = None
    drawn = TableModel(real_table(columns)).draw(1000, seed=0)
    gone = [row for row, value in enumerate(drawn["full_price"]) if value is None]
    assert len(gone) == 200
    assert gone == [row for row, value in enumerate(drawn["price_eur"]) if value is None]


def test_correlated_numbers_stay_correlated() -> None:
    rng = np.random.default_rng(0)
    size = rng.normal(50, 10, 800)
    weight = 3 * size + rng.normal(0, 8, 800)
    table = real_table({"name": [f"thing {n}" for n in range(800)], "size": size.tolist(), "weight": weight.tolist()})
    drawn = TableModel(table).draw(800, seed=1)
    real = np.corrcoef(size, weight)[0, 1]
    assert np.corrcoef(drawn["size"], drawn["weight"])[0, 1] == pytest.approx(real, abs=0.05)


def test_dates_in_several_formats() -> None:
    days = [datetime.date(2025, 1, 1) + datetime.timedelta(days=3 * n) for n in range(120)]
    written = [day.isoformat() if n % 2 else day.strftime("%d %b %Y") for n, day in enumerate(days)]
    drawn = TableModel(real_table({"day": written, "price": [10.0 + n for n in range(120)]})).draw(200, seed=0)
    iso = [text for text in drawn["day"] if text[4] == "-"]
    assert 60 < len(iso) < 140
    for text in drawn["day"]:
        day = datetime.datetime.strptime(text, "%Y-%m-%d" if text[4] == "-" else "%d %b %Y").date()
        assert days[0] <= day <= days[-1]


@pytest.mark.parametrize(
    "titles",
    [
        [f"{a} {b} {c}" for a in ("ఎరుపు", "నీలం", "పచ్చ") for b in ("పత్తి", "పట్టు") for c in ("చొక్కా", "చీర")] * 5,
        [a + b + c for a in ("红色", "蓝色", "黑色") for b in ("羊毛", "丝绸") for c in ("围巾", "外套")] * 5,
    ],
    ids=["telugu", "chinese"],
)
def test_titles_without_latin_letters(titles: list[str]) -> None:
    table = real_table({"title": titles, "price": [float(10 + n) for n in range(len(titles))]})
    drawn = TextModel(titles, [""] * len(titles)).draw("", np.random.default_rng(0))
    assert drawn not in titles
    letters = {letter for title in titles for letter in title}
    made = TableModel(table).draw(20, seed=0)["title"]
    assert {letter for title in made for letter in title} <= letters | set(" 0123456789")


def test_text_in_a_price_column_counts_as_missing_and_is_told() -> None:
    columns = price_list(300)
    columns["full_price"] = [str(value) for value in columns["full_price"]]
    columns["full_price"][3] = "on request"
    model = TableModel(real_table(columns))
    assert model.described()["cells_that_do_not_fit_their_column"] == {"full_price": 1}
    filled = [value for value in model.draw(300, seed=0)["full_price"] if value is not None]
    assert all(float(value) > 0 for value in filled)


def test_constant_and_empty_columns_stay_so() -> None:
    columns = price_list(100) | {"brand": ["X"] * 100, "nothing": [None] * 100}
    drawn = TableModel(real_table(columns)).draw(40, seed=0)
    assert drawn["brand"] == ["X"] * 40
    assert drawn["nothing"] == [None] * 40


def test_ten_thousand_categories() -> None:
    rng = np.random.default_rng(0)
    names = [f"category {number:05d}" for number in range(10_000)]
    columns = {"category": names * 4, "price": np.round(rng.uniform(5, 900, 40_000), 2).tolist()}
    drawn = TableModel(real_table(columns)).draw(20_000, seed=0)
    assert set(drawn["category"]) <= set(names)
    assert max(Counter(drawn["category"]).values()) <= 3


@pytest.mark.parametrize(
    ("columns", "answer"),
    [
        ({"name": [f"red cup {n}" for n in range(30)]}, "Product: {name}"),
        ({"cost": [1.5 * n for n in range(1, 31)]}, "Price: {cost}"),
        ({"kind": ["cup", "plate", "fork"] * 10}, "Category: {kind}"),
    ],
)
def test_one_column_is_enough(tmp_path: Path, columns: dict[str, list[Any]], answer: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "real.parquet")
    card = imitate(tmp_path / "real.parquet", 12, tmp_path / "out", seed=0, settings=SMALL)
    assert card.rows == 12
    assert DatasetCard.read(tmp_path / "out").task.answer == answer


def test_the_task_of_the_study_where_the_table_has_its_columns() -> None:
    columns = price_list(100)
    columns["category3_code"] = columns.pop("category")
    assert task_for(TableModel(real_table(columns))) == Task()


def test_a_table_with_nothing_to_ask(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x"] * 9, "b": pa.array([None] * 9, pa.string())}), tmp_path / "real.parquet")
    with pytest.raises(SampleError, match="nothing to ask of an image"):
        imitate(tmp_path / "real.parquet", 5, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("real.csv", "", "is empty"),
        ("real.csv", "title,price\n", "0 rows"),
        ("real.csv", "a,a\n1,2\n", "names a column twice"),
        ("real.xlsx", "what", "unknown ending"),
        ("real.parquet", "no parquet", "cannot be read as a table"),
        ("real.jsonl", "{not json", "cannot be read as a table"),
    ],
)
def test_unreadable_tables_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=message):
        read_table(tmp_path / name)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no table"):
        read_table(tmp_path / "nowhere.csv")


def test_csv_keeps_leading_zeros(tmp_path: Path) -> None:
    lines = ["code,title,price"] + [f"{n:06d},Blue {('hat', 'bag', 'tie')[n % 3]} number {n},{n}.50" for n in range(50)]
    (tmp_path / "real.csv").write_text("\n".join(lines))
    drawn = TableModel(read_table(tmp_path / "real.csv")).draw(30, seed=0)
    assert all(len(code) == 6 and code.isdigit() for code in drawn["code"])
    assert all(value.endswith(".50") for value in drawn["price"])


@pytest.mark.process
def test_folder_with_images_same_bytes_on_two_workers(tmp_path: Path) -> None:
    pq.write_table(pa.table(price_list(200)), tmp_path / "real.parquet")
    for workers in (1, 2):
        imitate(tmp_path / "real.parquet", 80, tmp_path / f"w{workers}", seed=7, settings=SMALL, workers=workers)
    files = sorted(path.relative_to(tmp_path / "w1") for path in (tmp_path / "w1").rglob("*") if path.is_file())
    assert len(files) == 83
    for name in files:
        assert (tmp_path / "w1" / name).read_bytes() == (tmp_path / "w2" / name).read_bytes()
    table = pq.read_table(tmp_path / "w1" / METADATA)
    assert set(price_list(1)) <= set(table.column_names)
    assert all((tmp_path / "w1" / name).is_file() for name in table["file_name"].to_pylist())
    by_title = defaultdict(set)
    for row in table.to_pylist():
        by_title[row["title"]].add(row["split"])
    assert all(len(splits) == 1 for splits in by_title.values())
    learned = SampleCard.read(tmp_path / "w1").price_rule["imitated"]
    assert learned["rules"]["order"] == ["price <= full_price"]


def test_rows_without_a_field_of_the_task_are_rejects(tmp_path: Path) -> None:
    columns = price_list(300)
    for row in range(0, 300, 4):
        columns["title"][row] = None
    pq.write_table(pa.table(columns), tmp_path / "real.parquet")
    card = imitate(tmp_path / "real.parquet", 100, tmp_path / "out", seed=0, settings=SMALL)
    assert (card.rows, card.rejected) == (75, 25)
    lines = [json.loads(line) for line in (tmp_path / "out" / REJECTS).read_text().splitlines()]
    assert len(lines) == 25
    assert "'title' is empty" in lines[0]["reason"]
