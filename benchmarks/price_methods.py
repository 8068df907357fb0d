r"""Four strategies to learn and answer a price, on the sample catalogue and on real photographs, over several seeds.

    phisight demo --start nothing --out runs/demo
    phisight sample make --preset demo --rows 24000 --seed 0 --out data/prices
    phisight train recipes/tiny-scratch.yaml --set model.name=runs/demo/best --set train.train_tower=true \
        --set data.path=data/prices --set data.keep_pixels_gb=6 --set train.learning_rate=1e-3 \
        --set train.steps=2800 --set train.evaluate_every=1400 --set out=runs/longer
    phisight train recipes/tiny-scratch.yaml --set model.name=runs/longer/checkpoints/checkpoint-1400 \
        --set train.train_tower=true --set data.path=data/prices --set seed=1 --set train.learning_rate=5e-4 \
        --set train.warmup=0 --set train.steps=300 --set train.evaluate_every=300 --set train.answer_rows=0 \
        --set out=runs/prices
    python benchmarks/price_methods.py --start runs/prices [--products FOLDER] [--seeds 5] [--json FILE] [--table]

The first four commands make a model that sees well: what the demo has learned, trained on with eight times the rows
(the demo's own rows are among them, in the same splits; the third command may be ended after its step 1400), then
with a falling learning rate. Every training of this benchmark starts from its weights: each way of learning prices
trains on for a few steps, as many for all, with another order of the examples (and another head) for each seed. So
the figures compare strategies to learn prices at one and the same ability to see.

    text, expected    one training with digits as text, answered by two strategies
    digit_weighted    one training
    head              one training

The catalogue's answers are about products drawn for each seed, none of which any model was trained on: FRESH_FIRST
for the first seed, so that intervals are fitted on a thousand rows and checked on another thousand, FRESH for the
others and for ``expected``, which takes long. Intervals are fitted on the first half of the answers, checked on the
second one. FOLDER holds products.csv and images/ with product_code, title, category and price; its clothing (Men,
Women) is cut in two halves by product, one to train on and one to answer about; answers are held to the template so
that all are read. A finished training adds a line to OUT/results.jsonl; the same command goes on after the last one.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from price_figures import Answered, Answers, rows_of, show, summary

from phisight.core.kinds.kind import as_number
from phisight.core.recipe import recipe_from
from phisight.core.run_folder import BEST
from phisight.core.settings import EvaluateSettings, Numbers
from phisight.core.task import Task
from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.build.plan.splits import SplitShares
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import evaluate
from phisight.export.subject import read_run
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.load import load_run
from phisight.workflows.predict import predictor_of
from phisight.workflows.train import train

TRAININGS: dict[Numbers, tuple[Numbers, ...]] = {
    "text": ("text", "expected"),
    "digit_weighted": ("digit_weighted",),
    "head": ("head",),
}
"""What is trained, and the strategies by which it then answers."""
METHODS = [method for methods in TRAININGS.values() for method in methods]
FRESH_FIRST, FRESH, FRESH_SEED = 2020, 1010, 1
"""Products drawn for the first seed and for each further one, and the sample's seed for the first; the training rows'
is 0.
"""
MOST: dict[Numbers, int] = {"expected": FRESH}
"""Rows answered at most by strategies that take several times as long."""
NEVER = 10**9
"""Steps between two validation losses: nobody reads them here."""
PHOTO_TASK = Task(
    answer="Price: {price}, Product: {title}, Category: {category}",
    fields={"price": "number", "title": "text", "category": "category"},
)


@dataclass(frozen=True)
class Part:
    """What is trained and answered on one data set."""

    train: dict[str, Any]
    fresh: bool
    """Answers are about products drawn for each seed; else about the test split."""

    @property
    def name(self) -> str:
        """The training as a short text: lines of other trainings are skipped."""
        return ", ".join(f"{name} {value}" for name, value in self.train.items())


PARTS = {
    "catalogue": Part({"steps": 80, "learning_rate": 5e-4}, fresh=True),
    "photos": Part({"steps": 40, "learning_rate": 2e-4}, fresh=False),
}


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--start", type=Path, required=True, help="run folder of a model trained with digits as text")
    parser.add_argument("--out", type=Path, default=Path("runs/price-methods"))
    parser.add_argument("--products", type=Path, default=Path("../shared/data/products"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=list(PARTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    options = parser.parse_args()
    folders = {"catalogue": read_run(options.start).data.path}
    if (options.products / "products.csv").is_file():
        folders["photos"] = halves(options.products, options.out / "photos")
    else:
        print(f"no {options.products / 'products.csv'}: the photographs are left out")
    if options.only:
        folders = {name: folder for name, folder in folders.items() if name == options.only}
    results = options.out / "results.jsonl"
    if not options.table:
        measure(folders, options.start, options.out, results, options.seeds)
    report = {}
    for data, folder in folders.items():
        found = [
            Answered(line["name"][3], asked_about(data, folder, options.out, line["name"][3]), line["answers"])
            for line in lines_of(results)
            if line["name"][:2] == [data, PARTS[data].name]
        ]
        report[data] = {"training": PARTS[data].name, **summary(found, folder, METHODS)}
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def lines_of(results: Path) -> list[dict[str, Any]]:
    """The finished trainings."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.is_file() else []


def halves(products: Path, out: Path) -> Path:
    """A data set folder of the clothing, half of the products to train on and half to answer about."""
    if not (out / "dataset.json").is_file():
        out.mkdir(parents=True, exist_ok=True)
        with (products / "products.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["category"].startswith(("Men >", "Women >"))]
        table = out.parent / "clothing.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        rule = GroupRule(None, (r"^([A-Z]+\d+)-",))
        build(
            str(table),
            out,
            BuildOptions(
                image="image",
                key="product_code",
                task=PHOTO_TASK,
                group=rule,
                near_duplicates=False,
                shares=SplitShares(0.5, 0.0, 0.5),
                image_root=products.resolve(),
            ),
        )
    return out


def measure(folders: dict[str, Path], start: Path, out: Path, results: Path, seeds: int) -> None:
    """Train and answer everything that ``results`` does not hold yet, seed by seed."""
    done = {tuple(line["name"]) for line in lines_of(results)}
    for data, folder in folders.items():
        part = PARTS[data]
        for seed in range(seeds):
            for training, methods in TRAININGS.items():
                name = (data, part.name, training, seed)
                if name in done:
                    continue
                began = time.process_time()
                run = trained(start, folder, out, part, training, seed)
                asked = asked_about(data, folder, out, seed)
                answers = {method: answered(run, asked, method, constrained=not part.fresh) for method in methods}
                shutil.rmtree(run)
                line = {"name": name, "seconds": round(time.process_time() - began), "answers": answers}
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{' '.join(map(str, name))}: {line['seconds']} s of processor", flush=True)


def trained(start: Path, folder: Path, out: Path, part: Part, training: Numbers, seed: int) -> Path:
    """A run folder, trained on from the weights of ``start``."""
    values: dict[str, Any] = {
        "out": str(out / "run"),
        "seed": seed,
        "model": {"name": str(start / BEST), "attention": "eager"},
        "data": {"path": str(folder), "feature_cache_gb": 0},
        "train": {
            "method": "full",
            "batch_size": 16,
            "adam_beta2": 0.98,
            "weight_decay": 0.05,
            "bf16": True,
            "numbers": training,
            "evaluate_every": NEVER,
            **part.train,
        },
    }
    return train(recipe_from(values), overwrite=True)


def asked_about(data: str, folder: Path, out: Path, seed: int) -> Path:
    """The data set folder whose rows are answered."""
    if not PARTS[data].fresh:
        return folder
    drawn = out / f"fresh-{seed}"
    if not drawn.is_dir():
        make(FRESH if seed else FRESH_FIRST, drawn, seed=FRESH_SEED + seed, settings=preset("demo"))
    return drawn


def answered(run: Path, folder: Path, method: Numbers, *, constrained: bool) -> Answers:
    """Price by key of each row; none where the answer could not be read."""
    model, processor, _ = load_run(run)
    task = DatasetFolder.open(folder).task
    (name,) = task.of_kind("number")
    settings = EvaluateSettings(batch_size=32, max_new_tokens=160, constrained=constrained)
    rows = rows_of(folder)[: MOST.get(method)]
    prices = evaluate(predictor_of(model, processor, settings, method, task, [folder]), rows, task).predicted(name)
    return {row.key: None if price is None else as_number(price) for row, price in zip(rows, prices, strict=True)}


if __name__ == "__main__":
    main()
