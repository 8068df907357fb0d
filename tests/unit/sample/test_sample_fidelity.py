"""The check: a copy is caught, a broken rule is caught, a good imitation passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.errors import SampleError
from phisight.sample.catalogue.presets import preset
from phisight.sample.like.fidelity import check, compare
from phisight.sample.like.imitate import imitate
from phisight.sample.like.real_table import RealTable, read_table
from phisight.sample.like.table_model import TableModel

pytest.importorskip("sdmetrics")
SMALL = preset("demo", smallest=32, largest=48)


def shop(rows: int, seed: int) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    pick = rng.choice(4, size=rows, p=[0.4, 0.3, 0.2, 0.1])
    full = np.round(np.exp(np.array([4.0, 5.0, 6.0, 6.5])[pick] + 0.3 * rng.normal(size=rows)), 0)
    sold = np.where(rng.random(rows) < 0.3, np.round(full * 0.7), full)
    words = ("red", "blue", "soft", "long", "wide", "plain", "fine", "new")
    return {
        "code": [f"S{rng.integers(10**8, 10**9)}" for _ in range(rows)],
        "title": [
            f"{words[rng.integers(8)]} {words[rng.integers(8)]} {('hat', 'bag', 'shoe', 'coat')[k]}" for k in pick
        ],
        "area": [("small", "small", "large", "large")[k] for k in pick],
        "kind": [("hat", "bag", "shoe", "coat")[k] for k in pick],
        "full": full.tolist(),
        "price": sold.tolist(),
    }


def table(columns: dict[str, list[Any]]) -> RealTable:
    return RealTable(columns, len(columns["code"]))


def test_a_copy_of_the_table_is_caught() -> None:
    real, unseen = table(shop(400, 0)), table(shop(400, 1))
    report = compare(real, real, unseen)
    assert report.quality == pytest.approx(1)
    assert report.verbatim == {"code": 400, "title": 400}
    assert report.nearer_to_training is not None
    made = compare(real, table(TableModel(real).draw(400, 0)), unseen)
    assert made.copied == 0
    assert made.nearer_to_training is not None
    assert made.nearer_to_training <= 0.5
    assert made.nearer_to_training < report.nearer_to_training - 0.15


def test_a_good_imitation_is_as_alike_as_another_table_of_the_same_shop() -> None:
    real = table(shop(800, 0))
    other = compare(real, table(shop(800, 1)))
    made = compare(real, table(TableModel(real).draw(800, 0)))
    assert made.quality >= other.quality - 0.01
    assert made.valid_paths == 1
    assert set(made.rules.values()) == {1.0}


def test_broken_rules_and_paths_are_counted() -> None:
    real = table(shop(200, 0))
    columns = TableModel(real).draw(100, 0)
    columns["price"][:10] = [value + 1000 for value in columns["price"][:10]]
    columns["area"][:20] = ["large" if value == "small" else "small" for value in columns["area"][:20]]
    report = compare(real, table(columns))
    assert report.rules["price <= full"] == pytest.approx(0.9)
    assert report.rules["kind fixes area"] < 1
    assert report.valid_paths == pytest.approx(0.8)


def test_shuffled_columns_lose_their_trends() -> None:
    real = table(shop(600, 0))
    rng = np.random.default_rng(0)
    shuffled = {name: [values[row] for row in rng.permutation(600)] for name, values in real.columns.items()}
    report = compare(real, table(shuffled))
    assert report.column_shapes > 0.99
    assert report.pair_trends < 0.8


def test_missing_columns_are_named() -> None:
    real = table(shop(50, 0))
    columns = {name: values for name, values in real.columns.items() if name != "kind"}
    with pytest.raises(SampleError, match="lacks 1 of 6 real columns: kind"):
        compare(real, table(columns))


def test_command_says_yes_and_no(tmp_path: Path) -> None:
    pq.write_table(pa.table(shop(200, 0)), tmp_path / "real.parquet")
    pq.write_table(pa.table(shop(200, 1)), tmp_path / "unseen.parquet")
    imitate(tmp_path / "real.parquet", 100, tmp_path / "made", seed=0, settings=SMALL)
    arguments = ["sample", "check", str(tmp_path / "real.parquet")]
    good = CliRunner().invoke(app, [*arguments, str(tmp_path / "made"), "--holdout", str(tmp_path / "unseen.parquet")])
    assert good.exit_code == 0, good.output
    assert "nearer to training" in good.output
    assert CliRunner().invoke(app, [*arguments, str(tmp_path / "real.parquet")]).exit_code == 1


def test_a_data_set_folder_is_learned_from_its_training_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table(shop(300, 0)), tmp_path / "real.parquet")
    imitate(tmp_path / "real.parquet", 300, tmp_path / "first", seed=0, settings=SMALL)
    card = imitate(tmp_path / "first", 60, tmp_path / "second", seed=1, settings=SMALL)
    training = read_table(tmp_path / "first").part("train")
    assert card.price_rule["imitated"]["rows_learned_from"] == training.rows < 300
    report = check(tmp_path / "first", tmp_path / "second")
    assert report.nearer_to_training is not None
    assert report.verbatim_images == 0
