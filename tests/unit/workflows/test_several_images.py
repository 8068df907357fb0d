"""A table with several photographs of each product, through the whole chain."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.recipe import recipe_from
from phisight.core.run_folder import METRICS
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import read_rows
from phisight.workflows.train import train

PRODUCTS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every product photographed twice, every third one three times."""
    folder = tmp_path_factory.mktemp("photos")
    lines = ["code,image,title,kind,price"]
    draw = np.random.default_rng(0)
    for product in range(PRODUCTS):
        for view in range(3 if product % 3 == 0 else 2):
            name = f"{product}-{view}.png"
            Image.fromarray(draw.integers(0, 256, (90, 100, 3), dtype=np.uint8)).save(folder / name)
            lines.append(f"P{product},{name},Thing {product},{['HATS', 'BAGS'][product % 2]},{10 + product}.5")
    (folder / "photos.csv").write_text("\n".join(lines) + "\n")
    words = ["data", "build", folder / "photos.csv", "--out", folder / "data", "--key", "code", "--image", "image"]
    fields = ["--field", "title:text", "--field", "kind:category", "--field", "price:number"]
    answer = ["--answer", "Product: {title}, Kind: {kind}, Price: {price}"]
    done = CliRunner().invoke(app, [str(word) for word in [*words, *fields, *answer]])
    assert done.exit_code == 0, done.output
    return folder / "data"


def run(data: Path, out: Path, train_values: dict[str, Any] | None = None, **values: Any) -> list[float]:
    recipe = recipe_from(
        {
            "out": str(out),
            "data": {"path": str(data), "images": 2, **values},
            "train": {"method": "projector", "steps": 3, "batch_size": 4, "log_every": 1, **(train_values or {})},
            "evaluate": {"rows": 3, "max_new_tokens": 8, "batch_size": 2},
        }
    )
    said: list[str] = []
    train(recipe, notify=said.append)
    assert any("images are left out: their products have more than 2" in line for line in said)
    lines = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_stored_features_change_nothing(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path / "stored") == pytest.approx(run(data, tmp_path / "computed", feature_cache_gb=0))


@pytest.mark.parametrize("numbers", ["text", "head", "digit_weighted"])
def test_stored_states_and_packing_change_nothing(data: Path, tmp_path: Path, numbers: str) -> None:
    upper = {"method": "lora", "from_layer": 3, "numbers": numbers}
    plain = run(data, tmp_path / "plain", upper, trunk_cache_gb=0)
    assert run(data, tmp_path / "stored", upper) == pytest.approx(plain, abs=1e-4)
    assert run(data, tmp_path / "packed", {**upper, "packing": True}) == pytest.approx(plain, abs=1e-4)


def test_rows_of_a_product_are_evaluated_together(data: Path, tmp_path: Path) -> None:
    task = DatasetFolder.open(data).task
    joined = read_rows(data, task, "train", images=2).rows
    assert len({row.key for row in joined}) == len(joined)
    assert all(len(row.images) == 2 for row in joined)

    run(data, tmp_path / "run")
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["rows"] == min(3, len(read_rows(data, task, "test", images=2).rows))
    asked = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), *_found(data)[:2], "--together", "--json"])
    line = json.loads(asked.stdout)  # one answer for the two images
    # Three steps teach no format: whether this answer can be read is chance, and the exit code says which it was.
    assert asked.exit_code == (0 if line["fields"] else 1), asked.output


def _found(data: Path) -> list[str]:
    return [str(path) for path in sorted((data / "images").rglob("*.png"))]
