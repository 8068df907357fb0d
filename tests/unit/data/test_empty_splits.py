"""A split without a row is said when the data set is built, and again when it is evaluated."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from phisight.core.dataset_folder import SPLITS
from phisight.core.errors import EvaluationError
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.splits import SplitShares
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate.rows import read_rows
from tests.helpers.images import write_images


def shop(folder: Path, rows: int, split: str = "") -> str:
    names = write_images(folder, rows)
    path = folder / "shop.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "title", "photo", *(["split"] if split else [])])
        writer.writerows([f"p{at}", f"Thing {at}", names[at], *([split] if split else [])] for at in range(rows))
    return str(path)


@pytest.mark.parametrize(
    ("rows", "shares"),
    [(rows, (0.8, 0.1, 0.1)) for rows in (1, 2, 4, 7, 12, 40)]
    + [(4, (0.5, 0.25, 0.25)), (3, (1, 0, 0)), (3, (0.9, 0, 0.1)), (8, (0.98, 0.01, 0.01))],
)
def test_the_build_names_each_empty_split_and_evaluation_says_the_same(
    rows: int, shares: tuple[float, float, float], tmp_path: Path
) -> None:
    result = build(shop(tmp_path / "in", rows), tmp_path / "ds", BuildOptions(shares=SplitShares(*shares)))
    wanted = dict(zip(result.splits, shares, strict=True))
    empty = [name for name, count in result.splits.items() if not count and wanted[name]]
    said = [remark for remark in result.remarks if remark.startswith("no row in split")]
    assert len(said) == bool(empty)
    if empty:
        assert said[0].startswith(f"no row in split {' and '.join(empty)} (train {result.splits['train']}, ")
        assert f"only {rows} product" in said[0]
        needed = int(said[0].partition("add some (")[2].split()[0])
        assert needed > rows
    task = DatasetFolder.open(tmp_path / "ds").task
    for name in SPLITS:
        if count := result.splits[name]:
            assert len(read_rows(tmp_path / "ds", task, name).rows) == count
        else:
            message = rf"the split '{name}' of .* is empty: the data set has train {result.splits['train']}.*--split"
            with pytest.raises(EvaluationError, match=message):
                read_rows(tmp_path / "ds", task, name)


def test_a_split_of_ones_own_that_leaves_some_out_is_said(tmp_path: Path) -> None:
    remarks = build(shop(tmp_path / "in", 4, "train"), tmp_path / "ds").remarks
    assert any("no row in split validation and test" in one and "--no-own-split" in one for one in remarks)
