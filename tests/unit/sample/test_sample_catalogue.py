"""The catalogue: complete, consistent, the same bytes from the same seed, priced by the rule it states."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from phisight.core.dataset_folder import METADATA, SPLITS, DatasetCard
from phisight.core.errors import DatasetError, SampleError
from phisight.sample.card import ATTRIBUTES, SampleCard
from phisight.sample.catalogue.designs import listings
from phisight.sample.catalogue.presets import PRESETS, preset
from phisight.sample.catalogue.pricing import DISCOUNTS, EUR_PER_USD, ending, rule_price
from phisight.sample.catalogue.products import KINDS, Product
from phisight.sample.catalogue.table_rows import PRICE_LIST
from phisight.sample.catalogue.titles import product_code, title
from phisight.sample.draw_catalogue import make
from phisight.sample.parallel import in_order

ROWS = 240
SMALL = preset("fashion", smallest=40, largest=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "catalogue"
    make(ROWS, out, seed=11, settings=SMALL)
    return out


def test_folder_is_complete(folder: Path) -> None:
    card, rows = DatasetCard.read(folder), pq.read_table(folder / METADATA).to_pylist()
    assert card.rows == len(rows) == ROWS
    assert card.splits == {split: sum(row["split"] == split for row in rows) for split in SPLITS}
    assert len(PRICE_LIST.names) == 17
    for row in rows:
        content = (folder / row["file_name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["image_sha256"]
        with Image.open(folder / row["file_name"]) as image:
            assert image.size == (row["image_width"], row["image_height"])
        assert card.task.parse(card.task.render(row)).values


def test_rows_are_consistent(folder: Path) -> None:
    rows = pq.read_table(folder / METADATA).to_pylist()
    assert len({row["product_code"] for row in rows}) == len(rows)
    for row in rows:
        assert row["price"] <= row["full_price"]
        assert row["flg_discount"] == int(row["price"] < row["full_price"])
        assert row["full_price_eur"] in (None, round(row["full_price"] * EUR_PER_USD, 2))
        if row["flg_discount"]:
            assert min(abs(row["price"] / row["full_price"] - (1 - cut)) for cut in DISCOUNTS) < 0.02
        assert row["itemurl"] is None or row["itemurl"].endswith(row["product_code"])
        assert row["full_price"] == ending(row["full_price"])
    shares = Counter(row["category3_code"] for row in rows)
    assert max(shares.values()) > 5 * min(shares.values())
    assert 0.12 < np.mean([row["flg_discount"] for row in rows]) < 0.32


def test_designs_stay_in_one_split_and_share_their_price(folder: Path) -> None:
    groups = defaultdict(list)
    for row in pq.read_table(folder / METADATA).to_pylist():
        groups[row["group"]].append(row)
    assert SampleCard.read(folder).designs == len(groups) < ROWS
    for rows in groups.values():
        assert len({(row["split"], row["category3_code"], row["full_price"]) for row in rows}) == 1


def test_near_duplicates_are_the_same_product_in_another_image(folder: Path) -> None:
    truth = pq.read_table(folder / ATTRIBUTES).to_pylist()
    rows = pq.read_table(folder / METADATA).to_pylist()
    again = [n for n, facts in enumerate(truth) if facts["listed_again"]]
    assert again
    for n in again:
        twins = [
            m for m, row in enumerate(rows) if row["group"] == rows[n]["group"] and row["title"] == rows[n]["title"]
        ]
        assert len(twins) >= 2
        assert len({rows[m]["image_sha256"] for m in twins}) == len(twins)


def test_price_follows_the_rule_within_the_stated_noise(folder: Path) -> None:
    card = SampleCard.read(folder)
    truth = pq.read_table(folder / ATTRIBUTES).to_pylist()
    full = pq.read_table(folder / METADATA)["full_price"].to_pylist()
    errors = [abs(facts["rule_price"] / price - 1) for facts, price in zip(truth, full, strict=True)]
    assert card.best_price_median_ape == pytest.approx(float(np.median(errors)), abs=2e-4)
    # the median of |N(0, sigma)| is 0.6745 sigma
    assert card.best_price_median_ape == pytest.approx(0.6745 * SMALL.noise, rel=0.25)


def test_rule_is_the_product_of_its_stated_factors(folder: Path) -> None:
    factors = SampleCard.read(folder).price_rule["factors (1 where none is listed)"]
    for facts in pq.read_table(folder / ATTRIBUTES).to_pylist():
        kind = KINDS[facts["kind"]]
        expected = factors["kind"][facts["kind"]] * factors["pattern"][facts["pattern"]]
        expected *= factors["material"][facts["kind"]][facts["material"]]
        expected *= factors["hardware"][facts["hardware"]] if kind.hardware else 1
        expected *= list(factors["size"].values())[facts["size"]] if kind.sizes else 1
        assert facts["rule_price"] == pytest.approx(expected)


def test_without_noise_only_the_ending_is_left() -> None:
    product = Product("scarf", "Black", "check", "cashmere", "silver", 1, 0)
    assert rule_price(product, PRESETS["fashion"]) == pytest.approx(420 * 1.22 * 1.55 / 1.05)
    assert [ending(price) for price in (3, 132.4, 474, 996, 1233, 2190)] == [5, 130, 470, 990, 1240, 2190]


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2])
def test_same_seed_same_bytes(folder: Path, tmp_path: Path, workers: int) -> None:
    make(ROWS, tmp_path / "again", seed=11, settings=SMALL, workers=workers)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_another_seed_another_catalogue(folder: Path, tmp_path: Path) -> None:
    make(ROWS, tmp_path / "other", seed=12, settings=SMALL)
    for column in ("product_code", "image_sha256"):
        mine, theirs = (
            set(pq.read_table(path / METADATA)[column].to_pylist()) for path in (folder, tmp_path / "other")
        )
        assert not mine & theirs


def test_more_rows_begin_with_the_same_rows(folder: Path, tmp_path: Path) -> None:
    make(130, tmp_path / "short", seed=11, settings=SMALL)
    assert pq.read_table(tmp_path / "short" / METADATA).equals(pq.read_table(folder / METADATA).slice(0, 130))


def test_library_opens_the_folder(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    opened = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(folder / ".." / "cache")
    )
    assert opened.num_rows == ROWS
    assert {"image", "title", "group"} <= set(opened.column_names)


def test_codes_never_repeat() -> None:
    codes = {product_code(3, row) for row in range(200_000)}
    assert len(codes) == 200_000
    assert {len(code) for code in codes} == {8}


def test_titles_name_what_is_drawn() -> None:
    product = Product("trench_coat", "Archive Beige", "check", "gabardine", "gold", 2, 0)
    fashion = "Long Gold-tone Check Cotton Gabardine Trench Coat in Archive Beige"
    assert title(product, PRESETS["fashion"]) == fashion
    assert title(Product("scarf", "Red", "argyle", "wool", "silver", 1, 0), PRESETS["demo"]) == "Red Diamond Scarf"


def test_discount_and_missing_rates_can_be_set(tmp_path: Path) -> None:
    settings = preset("demo", smallest=32, largest=40, discounted=1.0, missing=0.5, duplicates=0.0, variants=1.0)
    make(200, tmp_path / "out", seed=0, settings=settings)
    table = pq.read_table(tmp_path / "out" / METADATA)
    assert set(table["flg_discount"].to_pylist()) == {1}
    assert 60 < table["itemurl"].null_count < 140
    assert len(set(table["group"].to_pylist())) == 200


def test_colors_of_a_design_differ() -> None:
    settings = preset("fashion", variants=4, duplicates=0)
    for design in range(40):
        colors = [listing.product.color for listing in listings(5, settings, design)]
        assert len(set(colors)) == len(colors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("spaceship",)}, "spaceship"),
        ({"noise": -1}, "noise"),
        ({"smallest": 900, "largest": 100}, "900"),
        ({"patterns": {}}, "plain"),
        ({"pattern": 3}, "pattern"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SampleError, match=message):
        preset("fashion", **changes)
    with pytest.raises(SampleError, match="presets: fashion, demo"):
        preset("fasion")


def test_bad_counts_are_named(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="0 rows and 1 workers"):
        make(0, tmp_path / "out", seed=0)


def test_a_folder_with_something_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(SampleError, match="no sample; choose another --out"):
            make(5, tmp_path / "mine", seed=0, settings=SMALL, overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(SampleError, match="--overwrite"):
        make(5, folder, seed=0, settings=SMALL)
    (tmp_path / "file").write_text("x")
    with pytest.raises(SampleError, match="is a file"):
        make(5, tmp_path / "file", seed=0, settings=SMALL)


def test_an_earlier_sample_is_replaced_when_asked(tmp_path: Path) -> None:
    make(30, tmp_path / "out", seed=0, settings=SMALL)
    assert make(5, tmp_path / "out", seed=0, settings=SMALL, overwrite=True).rows == 5
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 5


def test_a_failure_leaves_nothing_behind_and_an_earlier_sample_whole(tmp_path: Path) -> None:
    make(10, tmp_path / "out", seed=0, settings=SMALL)

    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(200, tmp_path / "out", seed=1, settings=SMALL, overwrite=True, progress=stop)
    assert SampleCard.read(tmp_path / "out").rows == 10
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_without_a_sample_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="phisight sample make"):
        SampleCard.read(tmp_path)


@pytest.mark.process
def test_memory_holds_a_bounded_number_of_batches() -> None:
    started: list[int] = []

    def jobs() -> Iterator[float]:
        for number in range(100):
            started.append(number)
            yield float(number)

    results = in_order(math.sqrt, jobs(), workers=2)
    assert next(results) == 0.0
    assert len(started) <= 6
    assert [*results] == [math.sqrt(number) for number in range(1, 100)]


@pytest.mark.process
def test_torch_stays_out() -> None:
    code = (
        "import sys, phisight.sample.draw_catalogue, phisight.sample.like.imitate; "
        "import phisight.sample.like.fidelity; "
        "print('torch' in sys.modules, 'sdmetrics' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.process
def test_a_process_that_ends_is_named() -> None:
    with pytest.raises(SampleError, match=r"one of 2 processes that draw ended .* \(--workers 1\)"):
        list(in_order(os._exit, [3], workers=2))
