"""A run with a number head from training to answers and intervals: made whole, and as adapters on a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from phisight.core.errors import CheckpointError
from phisight.core.recipe import changed
from phisight.export.subject import read_run
from phisight.model.number_head import NUMBER_HEAD, head_of, load_number_head
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.extract import load_extractor
from phisight.workflows.load import load_run
from tests.helpers.trained_run import trained

PATHS = ["full", "lora"]


@pytest.fixture(scope="module")
def runs(products: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ways")
    options: dict[str, Any] = {"numbers": "head", "learning_rate": 3e-2, "steps": 4}
    return {
        "full": trained(products, folder / "full", numbers="head", steps=20),
        "lora": trained(products, folder / "lora", model=str(base), method="lora", **options),
    }


@pytest.mark.parametrize("path", PATHS)
def test_the_head_comes_back_with_the_run(path: str, runs: dict[str, Path]) -> None:
    stored = load_number_head(runs[path] / "best")
    model, _, _ = load_run(runs[path])
    head = head_of(model)
    assert stored is not None
    assert head is not None
    assert all(torch.equal(value, stored.state_dict()[name]) for name, value in head.state_dict().items())
    assert head.outer.weight.abs().sum() > 0, "it has been trained"


def test_answers_carry_numbers_of_the_training_rows_and_intervals(runs: dict[str, Path], products: Path) -> None:
    run = runs["full"]
    settings = changed(read_run(run).evaluate, split="test", coverage=0.6, constrained=True, max_new_tokens=90)
    scores = evaluate_run(run, settings=settings, base_model_rows=0)
    table = pq.read_table(products / "metadata.parquet", columns=["full_price", "split"]).to_pylist()
    known = {line["full_price"] for line in table if line["split"] == "train"}
    lines = [
        line
        for line in pq.read_table(run / "evaluations" / "test" / "predictions.parquet").to_pylist()
        if line["images"] == "real"
    ]
    assert {line["predicted"]["full_price"] for line in lines} <= known
    one = scores["prediction_intervals"]["price"]
    assert one["level"] == 0.6
    assert one["rows"] == len(lines)
    held: dict[str, list[bool]] = {}
    for line in lines:
        inside = line["lower"]["full_price"] <= line["truth"]["full_price"] <= line["upper"]["full_price"]
        held.setdefault(line["group"], []).append(inside)
    assert one["groups"] == len(held)
    assert one["coverage"] == pytest.approx(sum(sum(group) / len(group) for group in held.values()) / len(held))
    assert scores["numbers"]["strategy"] == "head"
    assert scores["numbers"]["as_written"]["price_mae"] is not None
    assert any("numbers come from the number head" in line for line in scores["verdict"]["lines"])
    assert (run / "evaluations" / "test" / "predictions.validation.jsonl").is_file()


def test_too_few_validation_rows_are_named(runs: dict[str, Path]) -> None:
    settings = changed(
        read_run(runs["full"]).evaluate, split="test", coverage=0.99, constrained=True, max_new_tokens=90
    )
    scores = evaluate_run(runs["full"], settings=settings, base_model_rows=0)
    assert "prediction_intervals" not in scores
    assert "too few for intervals of 99%" in scores["not_checked"]["prediction_intervals"]
    assert json.loads((runs["full"] / "evaluations" / "test" / "scores.json").read_text())["price_mae"] is not None


def test_a_run_that_lost_its_head_says_so(runs: dict[str, Path], products: Path) -> None:
    run = runs["full"]
    file = run / "best" / NUMBER_HEAD
    kept = file.read_bytes()
    file.unlink()
    (image,) = list((products / "images").rglob("*.jpg"))[:1]
    try:
        with pytest.raises(CheckpointError, match="bears no number head"):
            load_extractor(run).extract(image)
    finally:
        file.write_bytes(kept)
    assert "number head" not in str(load_extractor(run).extract(image).error), "it answers again"
