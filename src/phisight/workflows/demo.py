"""The whole chain on made-up products, offline, on a CPU: draw, train, evaluate, report.

The figures are measured, never promised: the thresholds below are compared with what was measured, and a missed
category threshold is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phisight.core.errors import EvaluationError
from phisight.core.recipe import recipe_from
from phisight.core.settings import Recipe
from phisight.report import write_report
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.train.callbacks import TrainingCallback
from phisight.workflows.evaluate import Progress, evaluate_run
from phisight.workflows.train import Prepared, train

ROWS, QUICK_ROWS = 3000, 200
MIN_CATEGORY_ACCURACY, MIN_TITLE_EXACT, MAX_PRICE_ERROR = 0.95, 0.80, 2.0

RECIPE: dict[str, Any] = {
    "seed": 0,
    "model": {"name": "tiny", "attention": "eager"},
    "data": {"keep_pixels_gb": 1.0},
    "train": {
        "method": "full",
        "steps": 1600,
        "batch_size": 16,
        "learning_rate": 1.5e-3,
        "adam_beta2": 0.98,
        "weight_decay": 0.05,
        "bf16": True,
        "numbers": "text",
        "log_every": 20,
        "evaluate_every": 400,
        "answer_rows": 48,
    },
    "evaluate": {"split": "test", "batch_size": 64, "coverage": 0.8},
}
"""What the demo trains; ``recipes/tiny-cpu.yaml`` holds the same for a data set of one's own."""

QUICK: dict[str, Any] = {"steps": 20, "batch_size": 8, "evaluate_every": 10, "answer_rows": 8, "log_every": 5}


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured."""

    run: Path
    report: Path
    scores: dict[str, Any]
    noise: float
    """Median absolute percentage error of the noise in the prices: no model can stay below it."""

    def thresholds(self) -> list[tuple[str, float, float, bool]]:
        """Name, figure, threshold, whether it was reached."""
        category, title = self.scores["category_accuracy"], self.scores["title_exact"]
        price = (self.scores["price_median_ape"] or float("inf")) / self.noise
        return [
            ("category accuracy", category, MIN_CATEGORY_ACCURACY, category >= MIN_CATEGORY_ACCURACY),
            ("whole title right", title, MIN_TITLE_EXACT, title >= MIN_TITLE_EXACT),
            ("price error / noise", price, MAX_PRICE_ERROR, price <= MAX_PRICE_ERROR),
        ]


@dataclass(frozen=True)
class DemoCallbacks:
    """What is called while the demo runs."""

    stage: Callable[[str], None]
    drawing: Callable[[int], None]
    prepared: Callable[[Prepared], None]
    training: TrainingCallback
    answering: Progress


def run_demo(
    out: Path, callbacks: DemoCallbacks, *, quick: bool = False, overrides: list[str] | None = None
) -> DemoResult:
    """Draw, train, evaluate, report; everything is written to ``out``."""
    rows = QUICK_ROWS if quick else ROWS
    data = out / "data"
    callbacks.stage(f"Drawing {rows} products")
    if not _drawn(data, rows):
        make(rows, data, seed=0, settings=preset("demo"), workers=2, overwrite=True, progress=callbacks.drawing)
    noise = json.loads((data / "sample.json").read_text(encoding="utf-8"))["best_price_median_ape"]

    callbacks.stage("Training a tiny Phi-3-Vision")
    recipe = _recipe(out, data, quick, overrides or [])
    train(recipe, announce=callbacks.prepared, progress=callbacks.training, overwrite=True)

    callbacks.stage("Evaluating on products it has never seen")
    scores = evaluate_run(out, progress=callbacks.answering)

    callbacks.stage("Writing the report")
    report = write_report([out])
    return DemoResult(out, report, scores, float(noise))


def require_category_accuracy(result: DemoResult) -> None:
    """EvaluationError when the model does not name the category as well as it should."""
    name, figure, threshold, reached = result.thresholds()[0]
    if not reached:
        raise EvaluationError(
            f"the demo missed its threshold: {name} {figure:.1%}, at least {threshold:.0%} expected; see "
            f"{result.report} and {result.run / 'metrics.jsonl'} for where training stopped"
        )


def _recipe(out: Path, data: Path, quick: bool, overrides: list[str]) -> Recipe:
    values = {**RECIPE, "out": str(out), "data": {**RECIPE["data"], "path": str(data)}}
    if quick:
        values = {**values, "train": {**RECIPE["train"], **QUICK}, "evaluate": {**RECIPE["evaluate"], "rows": 16}}
    return recipe_from(values, overrides, source="the demo")


def _drawn(data: Path, rows: int) -> bool:
    """Whether an earlier demo has drawn the same products."""
    try:
        card: Mapping[str, Any] = json.loads((data / "sample.json").read_text(encoding="utf-8"))
        return bool(card["rows"] == rows and card["settings"] == json.loads(preset("demo").model_dump_json()))
    except (OSError, ValueError, KeyError):
        return False
