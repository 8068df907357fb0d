"""Planted faults: as many as asked, each one listed, each one really there, nothing else touched."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from phisight.core.dataset_folder import METADATA
from phisight.core.errors import SampleError
from phisight.sample.card import FAULTS, SampleCard
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.sample.faults import FAULT_KINDS, parse_rates

SMALL = preset("demo", smallest=32, largest=48)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("faults")
    make(360, out / "clean", seed=4, settings=SMALL)
    make(360, out / "dirty", seed=4, settings=SMALL, faults=parse_rates("all=0.04"))
    return out / "clean", out / "dirty"


def test_every_fault_is_listed_counted_and_there(pair: tuple[Path, Path]) -> None:
    clean_folder, folder = pair
    clean = {row["product_code"]: row for row in pq.read_table(clean_folder / METADATA).to_pylist()}
    rows = pq.read_table(folder / METADATA).to_pylist()
    faults = [json.loads(line) for line in (folder / FAULTS).read_text(encoding="utf-8").splitlines()]
    counts = Counter(fault["fault"] for fault in faults)
    assert set(counts) == set(FAULT_KINDS)
    assert SampleCard.read(folder).faults == dict(sorted(counts.items()))
    for fault in faults:
        row = rows[fault["row"]]
        assert row["product_code"] == fault["product_code"]
        before = clean[row["product_code"]]
        path = folder / row["file_name"]
        if fault["fault"] == "broken_image":
            assert hashlib.sha256(path.read_bytes()).hexdigest() != row["image_sha256"]
            with pytest.raises(OSError, match=r"identify|[Tt]runcated"), Image.open(path) as image:
                image.load()
        elif fault["fault"] == "missing_image":
            assert not path.exists()
        elif fault["fault"] == "duplicate_row":
            assert row == rows[fault["row"] + 1]
        else:
            assert str(row[fault["column"]]) == str(fault["after"])
            assert str(before[fault["column"]]) == str(fault["before"])
            assert row[fault["column"]] != before[fault["column"]]


def test_rows_without_a_fault_are_untouched(pair: tuple[Path, Path]) -> None:
    clean_folder, folder = pair
    clean = {row["product_code"]: row for row in pq.read_table(clean_folder / METADATA).to_pylist()}
    faulty = {json.loads(line)["product_code"] for line in (folder / FAULTS).read_text(encoding="utf-8").splitlines()}
    sound = [row for row in pq.read_table(folder / METADATA).to_pylist() if row["product_code"] not in faulty]
    assert len(sound) > 150
    for row in sound:
        before = clean[row["product_code"]]
        # text among prices makes the whole column text
        assert row == before | {"full_price": str(before["full_price"])}
        assert (folder / row["file_name"]).read_bytes() == (clean_folder / row["file_name"]).read_bytes()


def test_leaks_put_one_design_on_two_sides(pair: tuple[Path, Path]) -> None:
    _, folder = pair
    rows = pq.read_table(folder / METADATA).to_pylist()
    for line in (folder / FAULTS).read_text(encoding="utf-8").splitlines():
        fault = json.loads(line)
        if fault["fault"] == "split_leak":
            group = rows[fault["row"]]["group"]
            assert len({row["split"] for row in rows if row["group"] == group}) > 1


def test_rates_can_be_set_one_by_one(tmp_path: Path) -> None:
    card = make(100, tmp_path / "out", seed=0, settings=SMALL, faults=parse_rates("missing_image=1"))
    assert card.faults == {"missing_image": 100}
    assert not list((tmp_path / "out").rglob("*.jpg"))
    assert parse_rates("broken_image, outlier_price=0.5") == {"broken_image": 0.01, "outlier_price": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [("broken", "no fault"), ("all=2", "from 0 to 1, got 2"), ("all=many", "'many'")],
)
def test_bad_rates_are_named(text: str, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        parse_rates(text)
