"""Every number strategy with one and two images of a product, packed or not, with stored features or without.

What is stored and how examples lie beside each other changes the time of a step, never its loss; and a strategy answers
a row in a batch as it answers it alone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from phisight.core.recipe import changed, recipe_from
from phisight.core.run_folder import METRICS
from phisight.core.settings import ModelSettings, Numbers
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.splits import SplitShares
from phisight.evaluate import EvalRow, evaluate, read_rows
from phisight.export.subject import read_run
from phisight.generate import number_decoding
from phisight.workflows.evaluate import evaluate_model
from phisight.workflows.load import load_model, load_run
from phisight.workflows.predict import TowerFeatures, predictor_of
from phisight.workflows.references import product_features
from phisight.workflows.train import train
from tests.helpers.small_run import save_small_model

STRATEGIES = get_args(Numbers)
PRODUCTS = 14
TASK = Task(
    answer="Product: {title}, Kind: {kind}, Price: {price}. Weight: {weight} kg",
    fields={"title": "text", "kind": "category", "price": "number", "weight": "number"},
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every product photographed twice; a point stands behind one number, a space behind the other."""
    folder = tmp_path_factory.mktemp("grid")
    lines, draw = ["code,image,title,kind,price,weight"], np.random.default_rng(0)
    for product in range(PRODUCTS):
        for view in range(2):
            name = f"{product}-{view}.png"
            Image.fromarray(draw.integers(0, 256, (60, 72, 3), dtype=np.uint8)).save(folder / name)
            kind = ["HATS", "BAGS"][product % 2]
            lines.append(f"P{product},{name},Thing {product},{kind},{10 + product}.5,{1 + product / 4}")
    (folder / "photos.csv").write_text("\n".join(lines) + "\n")
    options = BuildOptions(image="image", key="code", task=TASK, shares=SplitShares(0.6, 0.0, 0.4))
    build(str(folder / "photos.csv"), folder / "data", options)
    return folder / "data"


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid-model")
    save_small_model(data, folder)
    return folder


def run(data: Path, model: Path, out: Path, numbers: str, images: int, *, packed: bool, stored: bool) -> list[float]:
    """The losses of three steps; upper-layer adapters, so that tower features and hidden states can be stored."""
    cache = {} if stored else {"feature_cache_gb": 0, "trunk_cache_gb": 0}
    recipe = recipe_from(
        {
            "out": str(out),
            "model": {"name": str(model)},
            "data": {"path": str(data), "images": images, **cache},
            "train": {
                "method": "lora",
                "from_layer": 1,
                "numbers": numbers,
                "packing": packed,
                "steps": 3,
                "batch_size": 4,
                "learning_rate": 0.01,
                "log_every": 1,
            },
            "lora": {"rank": 2},
            "evaluate": {"constrained": True, "max_new_tokens": 120},
        }
    )
    train(recipe)
    lines = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("numbers", STRATEGIES)
def test_the_grid(
    numbers: str, images: int, data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(data, model, tmp_path / "plain", numbers, images, packed=False, stored=False)
    for packed, stored in ((False, True), (True, False), (True, True)):
        out = tmp_path / f"{packed}-{stored}"
        losses = run(data, model, out, numbers, images, packed=packed, stored=stored)
        assert losses == pytest.approx(plain, abs=1e-4), f"packing {packed}, stored {stored}"

    monkeypatch.setattr(number_decoding, "LEAST_MASS", 0.0)  # after three steps a model believes in no number
    rows = read_rows(data, TASK, "test", images=images).rows
    assert {len(row.images) for row in rows} == {images}
    together = answered(tmp_path / "plain", data, rows, batch_size=len(rows))
    assert together == [text for row in rows for text in answered(tmp_path / "plain", data, [row], batch_size=1)]
    for text in together:
        values = TASK.parse(text or "").values
        assert values is not None, text
        assert {*values} == {"title", "kind", "price", "weight"}


@pytest.mark.parametrize("images", [1, 2])
def test_a_model_that_is_no_run_is_shown_as_many_images(images: int, data: Path, model: Path, tmp_path: Path) -> None:
    """``evaluate MODEL`` honors data.images: in the answers, and in the features of the baselines."""
    settings = {"rows": None, "max_new_tokens": 8, "batch_size": 4}
    values = {"out": str(tmp_path / "out"), "model": {"name": str(model)}, "evaluate": settings}
    scores = evaluate_model(recipe_from({**values, "data": {"path": str(data), "images": images}}))
    products = {row.key for row in read_rows(data, TASK, "test").rows}
    assert scores["rows"] == len(products) * (2 if images == 1 else 1)
    assert scores["groups"] == len(products)
    training = {row.key for row in read_rows(data, TASK, "train").rows}
    rows = len(training) * (2 if images == 1 else 1)
    assert f"from {rows} of {rows} training rows" in scores["baselines"]["nearest neighbor"]["about"]
    assert "frozen" not in scores["baselines"]["nearest neighbor"]["about"], "nobody knows how it was trained"


def test_features_of_several_images_are_averaged(data: Path, model: Path) -> None:
    loaded, processor = load_model(str(model), ModelSettings())
    (pair, *_) = read_rows(data, TASK, "test", images=2).rows
    singles = [
        replace(pair, image=image, more=(), hashes=(hash_,))
        for image, hash_ in zip(pair.images, pair.hashes, strict=True)
    ]
    tower = TowerFeatures(loaded, processor)
    together = product_features(tower, [pair])
    assert together == pytest.approx(product_features(tower, singles).mean(axis=0, keepdims=True), abs=1e-5)


def answered(out: Path, data: Path, rows: list[EvalRow], batch_size: int) -> list[Any]:
    """What a run answers about rows."""
    recipe = read_run(out)
    loaded, processor, _ = load_run(out)
    settings = changed(recipe.evaluate, batch_size=batch_size)
    predictor = predictor_of(loaded, processor, settings, recipe.train.numbers, TASK, [data], run=out)
    assert predictor.numbers == {"digit_weighted": "text"}.get(recipe.train.numbers, recipe.train.numbers)
    return list(evaluate(predictor, [replace(row) for row in rows], TASK).answers)
