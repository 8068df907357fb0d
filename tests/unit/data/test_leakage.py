"""Splits keep products and images apart, and the check finds every way in which others did not."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from phisight.core.dataset_folder import SPLITS, DatasetCard
from phisight.core.errors import SettingsError
from phisight.core.task import Task
from phisight.data.build.plan.splits import SplitShares, assign_splits, split_fraction
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.leakage import find_leaks
from tests.helpers.images import encoded, smooth_image


def foreign_folder(path: Path, rows: list[dict[str, str]], images: list[bytes]) -> DatasetFolder:
    """A data set that phisight did not build: no fingerprints, no groups."""
    (path / "images").mkdir(parents=True)
    for at, image in enumerate(images):
        (path / "images" / f"{at}.jpg").write_bytes(image)
    table = [{"file_name": f"images/{at}.jpg", **row} for at, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(table), path / "metadata.parquet")
    task = Task.model_validate({"answer": "{title}", "fields": {"title": "text"}})
    splits = dict(Counter(row["split"] for row in rows))
    DatasetCard(task=task, key="sku", rows=len(rows), splits=splits).write(path)
    return DatasetFolder.open(path)


def row(sku: str, split: str) -> dict[str, str]:
    return {"sku": sku, "title": "T", "split": split}


def test_a_clean_foreign_data_set(tmp_path: Path) -> None:
    rows = [row("a", "train"), row("b", "test"), row("a", "train")]
    assert find_leaks(foreign_folder(tmp_path / "ds", rows, [encoded(smooth_image(n)) for n in range(3)])) == []


def test_every_kind_of_leak_is_found(tmp_path: Path) -> None:
    smaller = smooth_image(2).resize((48, 32), Image.Resampling.LANCZOS)
    images = [
        encoded(smooth_image(0)),
        encoded(smooth_image(0)),
        encoded(smooth_image(2)),
        encoded(smaller, quality=60),
    ]
    rows = [row("a", "train"), row("b", "test"), row("c", "train"), row("d", "validation")]
    rows += [row("e", "train"), row("e", "test")]
    images += [encoded(smooth_image(4)), encoded(smooth_image(5))]
    leaks = {leak.kind: leak for leak in find_leaks(foreign_folder(tmp_path / "ds", rows, images))}
    assert leaks["same image"].examples == ["a in train", "b in test"]
    assert leaks["near image"].examples == ["c in train", "d in validation"]
    assert leaks["key"].examples == ["e in train", "e in test"]


def test_images_of_one_fingerprint_leak_whatever_their_bytes(tmp_path: Path) -> None:
    image = smooth_image(3)
    images = [encoded(image, "PNG"), encoded(image, "PNG", compress_level=1), encoded(smooth_image(5))]
    rows = [row("a", "train"), row("b", "test"), row("c", "train")]
    (leak,) = find_leaks(foreign_folder(tmp_path / "ds", rows, images))
    assert (leak.kind, leak.examples) == ("near image", ["a in train", "b in test"])


def splits_of(groups: list[str], categories: list[str], prices: list[float], seed: int = 0) -> list[str]:
    fraction = np.array([split_fraction(seed, group) for group in groups])
    group_ranks, category_ranks = (np.unique(names, return_inverse=True)[1] for names in (groups, categories))
    return [SPLITS[at] for at in assign_splits(group_ranks, category_ranks, np.array(prices), fraction)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ABC"), st.integers(1, 100)), min_size=1, max_size=150))
def test_splits_are_whole_groups_and_depend_on_the_rows_alone(rows: list[tuple[int, str, int]]) -> None:
    groups = [f"g{group}" for group, _, _ in rows]
    categories, prices = [row[1] for row in rows], [float(row[2]) for row in rows]
    splits = splits_of(groups, categories, prices, seed=3)
    by_group: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        by_group.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in by_group.values())
    backwards = splits_of(groups[::-1], categories[::-1], prices[::-1], seed=3)
    assert backwards[::-1] == splits


def test_shares_hold_in_every_category_and_price_band() -> None:
    groups = [f"g{n}" for n in range(1000)]
    categories = ["hats" if n % 4 else "bags" for n in range(1000)]
    prices = [float(n % 97) for n in range(1000)]
    splits = splits_of(groups, categories, prices)
    assert Counter(splits) == {"train": 800, "validation": 100, "test": 100}
    for category, size in (("hats", 750), ("bags", 250)):
        part = [split for split, found in zip(splits, categories, strict=True) if found == category]
        assert abs(part.count("test") - size / 10) <= 2
    for low in (0, 20, 40, 60, 80):
        band = [split for split, price in zip(splits, prices, strict=True) if low <= price < low + 17]
        assert abs(band.count("test") / len(band) - 0.1) < 0.04
    assert splits_of(groups, categories, prices, seed=1) != splits


def test_a_category_that_occurs_once_is_learned_not_tested() -> None:
    splits = splits_of([f"g{n}" for n in range(50)], [f"c{n}" for n in range(50)], [math.nan] * 50)
    assert set(splits) == {"train"}


def test_shares_must_add_up() -> None:
    with pytest.raises(SettingsError, match="add up to 1"):
        SplitShares(0.8, 0.1, 0.2)
