"""The whole chain on made-up products, offline, on a CPU: draw, plan, train, evaluate, report, export, ask.

The model starts from the small base that comes with the package, which has never seen this catalogue
(``model/tiny-base/README.md`` says what was held back), or (``Start``) from nothing. The figures are measured, never
promised: the thresholds below are compared with what was measured, and a missed category threshold is an error.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phisight.core.errors import EvaluationError, SettingsError
from phisight.core.recipe import recipe_from
from phisight.core.run_folder import CONFIG
from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.model.tiny import TINY_BASE
from phisight.report import write_report
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.train.callbacks import TrainingCallback
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.export import export_model
from phisight.workflows.extract import load_extractor
from phisight.workflows.plan import Plan, plan
from phisight.workflows.results_folder import Progress
from phisight.workflows.train import Prepared, train

ROWS, QUICK_ROWS = 3000, 200
Start = Literal["nothing", "tiny-base"]
"""What the demo's training starts from."""
_EVALUATE = {"split": "test", "batch_size": 64, "coverage": 0.8, "other_image_rows": 128}
"""Of the 337 test rows the certificate needs fewer: it asks whether other images make answers worse at all."""

RECIPES: dict[Start, dict[str, Any]] = {
    "nothing": {
        "seed": 0,
        "model": {"name": "tiny", "attention": "eager"},
        "train": {
            "method": "full",
            "steps": 1600,
            "batch_size": 16,
            "learning_rate": 1.5e-3,
            "adam_beta2": 0.98,
            "weight_decay": 0.05,
            "bf16": "auto",
            "numbers": "text",
            "log_every": 20,
            "evaluate_every": 400,
            "answer_rows": 48,
        },
        "evaluate": _EVALUATE,
    },
    "tiny-base": {
        "seed": 0,
        "model": {"name": TINY_BASE, "attention": "eager", "dtype": "float32"},
        "train": {
            "method": "lora",
            "steps": 900,
            "batch_size": 16,
            "learning_rate": 3e-3,
            "adam_beta2": 0.98,
            "bf16": "auto",
            "numbers": "head",
            "log_every": 20,
            "evaluate_every": 450,
        },
        "lora": {
            "rank": 32,
            "alpha": 64,
            "targets": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "img_projection", "lm_head"],
        },
        "evaluate": _EVALUATE,
    },
}
"""What the demo trains; ``recipes/tiny-cpu.yaml`` and ``recipes/tiny-scratch.yaml`` hold the same for a data set of
one's own, where all rows are answered with other images, too."""

QUICK: dict[str, Any] = {"steps": 20, "batch_size": 8, "evaluate_every": 10, "log_every": 5}

THRESHOLDS: dict[Start, tuple[float, float, float]] = {"nothing": (0.95, 0.80, 2.0), "tiny-base": (0.93, 0.90, 1.4)}
"""Category accuracy at least, whole titles right at least, median price error over the noise at most."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured and made."""

    run: Path
    report: Path
    scores: dict[str, Any]
    noise: float
    """Median absolute percentage error of the noise in the prices: no model can stay below it."""
    export: Path
    image: Path
    """A test image, and what the exported model says of it."""
    answer: dict[str, Any]
    seconds: dict[str, float]
    """What each stage took, in order."""
    start: Start = "tiny-base"

    def thresholds(self) -> list[tuple[str, float, float, bool]]:
        """Name, figure, threshold, whether it was reached."""
        category, title = self.scores["category_accuracy"], self.scores["title_exact"]
        price = (self.scores["price_median_ape"] or float("inf")) / self.noise
        least_category, least_title, most_price = THRESHOLDS[self.start]
        return [
            ("category accuracy", category, least_category, category >= least_category),
            ("whole title right", title, least_title, title >= least_title),
            ("price error / noise", price, most_price, price <= most_price),
        ]


@dataclass(frozen=True)
class DemoCallbacks:
    """What is called while the demo runs."""

    stage: Callable[[str], None]
    drawing: Callable[[int], None]
    planned: Callable[[Plan], None]
    prepared: Callable[[Prepared], None]
    precomputing: Callable[[int, int], None]
    training: TrainingCallback
    answering: Progress


class _Stages:
    """Announces each stage, and keeps the time it took."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._began: list[tuple[str, float]] = []

    def begin(self, name: str, text: str) -> None:
        self._announce(text)
        self._began.append((name, time.monotonic()))

    def seconds(self) -> dict[str, float]:
        ends = [began for _, began in self._began[1:]] + [time.monotonic()]
        return {name: end - began for (name, began), end in zip(self._began, ends, strict=True)}


def run_demo(
    out: Path,
    callbacks: DemoCallbacks,
    *,
    start: Start = "tiny-base",
    quick: bool = False,
    overrides: list[str] | None = None,
) -> DemoResult:
    """Draw, plan, fine-tune, evaluate, report, export, ask; everything is written to ``out``.

    An earlier demo there is replaced; SettingsError where ``out`` holds another run, or a demo of another size.
    """
    rows, stages = QUICK_ROWS if quick else ROWS, _Stages(callbacks.stage)
    data, export = out / "data", out / "export"
    drawn = _drawn(data, rows)
    if (out / CONFIG).exists() and not drawn:
        raise SettingsError(
            f"{out} holds a run that this demo of {rows:,} products would replace; name another folder with --out, or "
            "delete it"
        )
    stages.begin("draw", f"Drawing {rows} products")
    if not drawn:
        make(rows, data, seed=0, settings=preset("demo"), workers=2, overwrite=True, progress=callbacks.drawing)
    noise = json.loads((data / "sample.json").read_text(encoding="utf-8"))["best_price_median_ape"]

    stages.begin("plan", "Planning")
    recipe = _recipe(out, data, start, quick, overrides or [])
    callbacks.planned(plan(recipe))

    named = "a tiny Phi-3-Vision" if start == "nothing" else recipe.model.name
    stages.begin("train", f"Training {named}")
    train(
        recipe,
        announce=callbacks.prepared,
        progress=callbacks.training,
        precomputing=callbacks.precomputing,
        overwrite=True,
    )

    stages.begin("evaluate", "Evaluating on products it has never seen")
    scores = evaluate_run(out, progress=callbacks.answering)

    stages.begin("report", "Writing the report")
    report = write_report([out])

    stages.begin("export", "Exporting the model")
    shutil.rmtree(export, ignore_errors=True)  # of an earlier demo
    export_model(out, export)

    stages.begin("ask", "Asking the exported model")
    image, answer = _first_answer(export, data, recipe.evaluate.split)
    return DemoResult(out, report, scores, float(noise), export, image, answer, stages.seconds(), start)


def require_category_accuracy(result: DemoResult) -> None:
    """EvaluationError when the model does not name the category as well as it should."""
    name, figure, threshold, reached = result.thresholds()[0]
    if not reached:
        raise EvaluationError(
            f"the demo missed its threshold: {name} {figure:.1%}, at least {threshold:.0%} expected; see "
            f"{result.report} and {result.run / 'metrics.jsonl'} for where training stopped"
        )


def _recipe(out: Path, data: Path, start: Start, quick: bool, overrides: list[str]) -> Recipe:
    chosen = RECIPES[start]
    values = {**chosen, "out": str(out), "data": {"path": str(data)}}
    if quick:
        fewer = {**chosen["train"], **QUICK, "answer_rows": 8 if "answer_rows" in chosen["train"] else 0}
        values = {**values, "train": fewer, "evaluate": {**chosen["evaluate"], "rows": 16}}
    return recipe_from(values, overrides, source="the demo")


def _first_answer(model: Path, data: Path, split: str) -> tuple[Path, dict[str, Any]]:
    """An image of a split, and its fields as the model in a folder reads them."""
    folder = DatasetFolder.open(data)
    image = folder.image_path(folder.rows(split)[0])
    answer = load_extractor(model).extract(image)
    return image, {"answer": answer.text, "fields": answer.json() if answer.ok else None}


def _drawn(data: Path, rows: int) -> bool:
    """Whether an earlier demo has drawn the same products."""
    try:
        card: Mapping[str, Any] = json.loads((data / "sample.json").read_text(encoding="utf-8"))
        return bool(card["rows"] == rows and card["settings"] == json.loads(preset("demo").model_dump_json()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
