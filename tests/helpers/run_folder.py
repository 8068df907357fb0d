"""A run folder as training and evaluation leave it, in seconds: a model that is right two times out of three."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from phisight.core.task import Task
from phisight.evaluate import (
    EvalRow,
    Images,
    PredictionIntervals,
    Predictions,
    against_baselines,
    figures,
    fit_baselines,
    fit_prediction_intervals,
    scores_of,
    verdict_of,
    write_predictions,
)
from phisight.evaluate.image_conditions import shown_rows
from phisight.track import Example, JsonlTracker

CATEGORIES = ("HATS", "BAGS", "SCARVES", "SHOES", "COATS & JACKETS")
HOSTILE = '<script>window.hacked = true</script><img src=x onerror="window.hacked = true">"\'&'


def image(number: int, side: int = 160) -> Image.Image:
    image = Image.new("RGB", (side, side), (245, 242, 236))
    draw = ImageDraw.Draw(image)
    color = (number * 47 % 200, number * 83 % 200, number * 131 % 200)
    shapes = (draw.ellipse, draw.rectangle, draw.rounded_rectangle)
    shapes[number % 3]((30, 25 + number % 20, 130, 135), fill=color)
    return image


def product(number: int) -> dict[str, Any]:
    title = HOSTILE if number == 4 else f"Vintage {('Check', 'Plain', 'Striped')[number % 3]} Thing No {number}"
    price = round(20 * math.exp(1.3 * math.sin(number)), 2)
    return {"title": title, "category3_code": CATEGORIES[number % 5], "full_price": price}


def answered(number: int, shift: int) -> str:
    """The model's answer to the image of row ``number + shift``, with its own faults."""
    row = product(number + shift)
    row["full_price"] = round(row["full_price"] * (1 + 0.15 * math.cos(3 * number)), 2)
    if number % 9 == 4:
        return f"I see {row['title']}"
    if number % 6 == 5:
        row["category3_code"] = CATEGORIES[(number + shift + 1) % 5]
    if number % 3 == 1:
        row["title"] = row["title"].replace("Vintage", "Modern")
    return Task().render(row)


def predictions(folder: Path, count: int, images: Images) -> Predictions:
    rows = []
    for number in range(count):
        path = folder / "images" / f"{number}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            image(number).save(path, compress_level=1)
        rows.append(EvalRow(f"P-{number}", path, Task().values(product(number)), Task().render(product(number))))
    shown = shown_rows(rows, Task(), images, 0)
    answers = {
        number: "cannot tell" if other is None else answered(number, other - number)
        for number, other in enumerate(shown)
    }
    return Predictions.of(Task(), rows, images, shown, answers, {})


def make_run(folder: Path, count: int = 40, *, steps: int = 5, thumbnails: int = 500) -> Path:
    run = folder / "run"
    modes: tuple[Images, ...] = ("real", "shuffled", "blank")
    every = {mode: predictions(folder, count, mode) for mode in modes}
    intervals = PredictionIntervals.around(every["real"], fit_prediction_intervals(every["real"], 0.8))
    write_predictions(run, list(every.values()), thumbnails=thumbnails, intervals=intervals)
    scores = scores_of(every, resamples=100)
    scores["prediction_intervals"] = intervals.scores(every["real"])
    truths = [row.truth for row in every["real"].rows]
    scores["baselines"] = against_baselines(every["real"], fit_baselines(Task(), truths, truths))
    scores["teacher_forced"] = figures(every["real"], resamples=0)
    scores["grounding"] = {
        "conclusion": "yes",
        "uses_image": True,
        "line": "uses the image: yes (shown another product's image, answers become worse)",
        "tests": ["shuffled: Wilcoxon signed-rank over products, p = 1e-05"],
    }
    scores["evaluation"] = {"model": "tiny", "data": "data/shop", "split": "test", "date": "2026-11-26"}
    scores["verdict"] = verdict_of(scores)
    (run / "scores.json").write_text(json.dumps(scores))
    (run / "config.yaml").write_text(
        "task: null\nseed: 0\nmodel:\n  name: tiny\ntrain:\n  method: lora\n  learning_rate: 0.0001\n"
    )
    (run / "environment.json").write_text(json.dumps({"python": "3.11", "packages": {"torch": "2.13.0"}}))
    (run / "dataset.json").write_text(json.dumps({"rows": 400, "splits": {"train": 360, "test": 40}}))
    tracker = JsonlTracker()
    tracker.start(run, {})
    file = io.BytesIO()
    image(1, 96).save(file, "JPEG")
    for step in range(20, 20 * steps + 1, 20):
        tracker.log(step, {"train/loss": 3 * math.exp(-step / 40), "train/lr": 1e-4 * (1 - step / 200)})
        tracker.log(step, {"eval/loss": 3.1 * math.exp(-step / 45), "eval/category_accuracy": 1 - math.exp(-step / 30)})
        rows = [
            Example(f"P-{number}", file.getvalue(), f"truth {number}", f"answer {number} at {step}")
            for number in range(6)
        ]
        tracker.log_examples(step, [*rows, Example("hostile", file.getvalue(), HOSTILE, HOSTILE)])
    tracker.finish({"seconds": 83.2, "peak_memory_gb": 1.4}, {})
    return run
