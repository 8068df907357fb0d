"""What it costs in quality, and brings in speed, to train the upper decoder layers only.

    python benchmarks/top_layers.py [--start FOLDER] [--products FOLDER] [--preset NAME] [--steps N] [--json FILE]

A trained model (``--start``; without one a small one is trained first) is adapted to another
sample catalogue, and with ``--products`` to real photos (a folder with products.csv and images), from layer 0, 1/4, 1/2
and 3/4 of the depth upwards. From layer 0 the tower's features are stored, above it the hidden states below the layer.
Printed: validation loss, category accuracy, whole titles, median price error on the test split, and samples/s of the
steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from phisight.core.recipe import load_recipe, recipe_from
from phisight.core.run_folder import BEST, METRICS
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.demo import QUICK_ROWS
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.train import train

SCORES = ("category_accuracy", "title_exact", "price_median_ape")
SCRATCH = Path(__file__).parents[1] / "recipes" / "tiny-scratch.yaml"
SHARES = (0.0, 0.25, 0.5, 0.75)


class Clock:
    """Time between the first step and the last one, evaluations left out: a training callback."""

    def __init__(self) -> None:
        self.steps, self.seconds = 0, 0.0
        self._last: float | None = None

    def begin(self, steps: int) -> None:
        """Training starts."""

    def step(self, step: int) -> None:  # noqa: ARG002
        """An optimizer step is done."""
        now = time.perf_counter()
        if self._last is not None:
            self.steps, self.seconds = self.steps + 1, self.seconds + now - self._last
        self._last = now

    def log(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """After an evaluation the clock starts anew."""
        if "eval_loss" in metrics:
            self._last = None


def small_model(folder: Path) -> Path:
    """A tiny model after a few steps, trained here."""
    data = folder / "demo-data"
    make(QUICK_ROWS, data, seed=0, settings=preset("demo"))
    few = ("steps=20", "batch_size=8", "evaluate_every=10", "answer_rows=8", "log_every=5")
    changes = [f"out={folder / 'demo'}", f"data.path={data}", *(f"train.{change}" for change in few)]
    return train(load_recipe(SCRATCH, changes)) / BEST


def real_photos(products: Path, into: Path) -> Path:
    """The photos as a data set folder."""
    build = ["data", "build", str(products / "products.csv"), "--out", str(into), "--key", "product_code"]
    columns = ["--image", "image", "--group-regex", r"^([A-Z]+\d+)-"]
    fields = [word for field in ("title:text", "category:category", "price:number") for word in ("--field", field)]
    answer = ["--answer", "Product: {title}, Category: {category}, Price: {price}"]
    subprocess.run([sys.executable, "-m", "phisight", *build, *columns, *fields, *answer], check=True)
    return into


def adapt(start: Path, data: Path, layer: int, asked: argparse.Namespace, out: Path) -> dict[str, float]:
    """Train from one layer upwards and answer the test split."""
    recipe = recipe_from(
        {
            "out": str(out),
            "model": {"name": str(start)},
            "data": {"path": str(data)},
            "train": {
                "method": "full",
                "from_layer": layer,
                "steps": asked.steps,
                "batch_size": 8,
                "learning_rate": asked.learning_rate,
                "evaluate_every": max(2, asked.steps // 4),
                "log_every": max(1, asked.steps // 4),
            },
            "evaluate": {"split": "test", "rows": asked.answers, "batch_size": 32},
        }
    )
    clock = Clock()
    train(recipe, progress=clock)
    scores = evaluate_run(out, base_model_rows=0)
    lines = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return {
        "samples_per_s": clock.steps * recipe.train.batch_size / clock.seconds if clock.seconds else float("nan"),
        "loss": min(line["eval/loss"] for line in lines if "eval/loss" in line),
        **{name: scores[name] if scores.get(name) is not None else float("nan") for name in SCORES},
    }


def main() -> None:
    """Adapt, answer, print."""
    parser = argparse.ArgumentParser(description="Quality and speed of training the upper layers only")
    parser.add_argument("--start", type=Path, help="folder of a trained model; none: one is trained")
    parser.add_argument("--products", type=Path, help="folder with products.csv and images")
    parser.add_argument("--rows", type=int, default=600, help="products of the other catalogue")
    parser.add_argument("--preset", default="fashion", help="of the other catalogue: fashion (kinds never seen), demo")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--answers", type=int, default=60, help="rows of the test split that are answered")
    parser.add_argument("--quick", action="store_true", help="few rows and steps: does it run at all?")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    if asked.quick:
        asked.rows, asked.steps, asked.answers = 40, 4, 4
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start = asked.start.resolve() if asked.start else small_model(folder)
        make(asked.rows, folder / "other", seed=1, settings=preset(asked.preset))
        sets = {f"another catalogue ({asked.preset})": folder / "other"}
        if asked.products:
            sets["real photos"] = real_photos(asked.products.resolve(), folder / "photos")
        depth = json.loads((start / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
        for name, data in sets.items():
            for share in SHARES:
                layer = round(share * depth)
                result = adapt(start, data, layer, asked, folder / f"{data.name}-{layer}")
                results.append({"data": name, "from_layer": layer, "of": depth, "steps": asked.steps, **result})
                print(
                    f"{name:27} from layer {layer} of {depth}   loss {result['loss']:.3f}   category "
                    f"{result['category_accuracy']:.1%}   title {result['title_exact']:.1%}   price error "
                    f"{result['price_median_ape']:.1%}   {result['samples_per_s']:.1f} samples/s",
                    flush=True,
                )
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
