"""Four ways to learn and answer a price, on the sample catalogue and on real photographs, over several seeds.

    python benchmarks/price_methods.py --start RUN [--products FOLDER] [--seeds 5] [--json FILE] [--table]

Every training starts from the weights of RUN, which a run of `phisight demo` has trained with digits as text; from
there each way trains on for a few steps, the same for all ways, with another order of the examples (and another head)
for each seed. So the figures compare ways to learn prices; how well a picture is seen is RUN's. On the catalogue the
vision tower stays as it is; on the photographs it trains, and answers are held to the template so that all are read.

    text, expected    one training with digits as text, answered in two ways
    digit_weighted    one training
    head              one training

FOLDER holds products.csv and images/ with product_code, title, category and price; its clothing (Men, Women) is cut
in two halves by product, one to train on and one to answer about, and the bar is the median of the true category in
the training half. A finished training adds a line to OUT/results.jsonl; the same command goes on after the last one.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from phisight.core.recipe import recipe_from
from phisight.core.rundir import BEST
from phisight.core.settings import EvaluateSettings, Numbers
from phisight.core.task import Task
from phisight.data.build import build
from phisight.data.folder import DatasetFolder
from phisight.data.grouping import GroupRule
from phisight.data.options import BuildOptions
from phisight.data.split import SplitShares
from phisight.evaluate import EvalRow, evaluate, interval, read_rows
from phisight.pipelines.loading import load_run, read_run
from phisight.pipelines.predictors import predictor_of
from phisight.pipelines.training import train

TRAININGS: dict[Numbers, tuple[Numbers, ...]] = {
    "text": ("text", "expected"),
    "digit_weighted": ("digit_weighted",),
    "head": ("head",),
}
"""What is trained, and the ways in which it then answers."""
METHODS = [method for methods in TRAININGS.values() for method in methods]
STEPS = {"catalogue": 120, "photos": 100}
PHOTO_TASK = Task(
    answer="Product: {title}, Category: {category}, Price: {price}",
    fields={"title": "text", "category": "category", "price": "number"},
)
Array = NDArray[np.float64]


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--start", type=Path, required=True, help="run folder of `phisight demo`, trained as text")
    parser.add_argument("--out", type=Path, default=Path("runs/price-methods"))
    parser.add_argument("--products", type=Path, default=Path("../shared/data/products"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    options = parser.parse_args()
    folders = {"catalogue": read_run(options.start).data.path}
    if (options.products / "products.csv").is_file():
        folders["photos"] = halves(options.products, options.out / "photos")
    else:
        print(f"no {options.products / 'products.csv'}: the photographs are left out")
    results = options.out / "results.jsonl"
    if not options.table:
        measure(folders, options.start, options.out, results, options.seeds)
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    report = summary(lines, folders)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


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
    done = set()
    if results.is_file():
        done = {tuple(json.loads(line)["name"]) for line in results.read_text(encoding="utf-8").splitlines()}
    for seed in range(seeds):
        for data, folder in folders.items():
            for training, methods in TRAININGS.items():
                name = (data, training, seed, STEPS[data])
                if name in done:
                    continue
                began = time.process_time()
                run = trained(start, folder, out, data, training, seed)
                answers = {method: answered(run, folder, method) for method in methods}
                shutil.rmtree(run)
                line = {"name": name, "seconds": round(time.process_time() - began), "answers": answers}
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{' '.join(map(str, name))}: {line['seconds']} s of processor", flush=True)


def trained(start: Path, folder: Path, out: Path, data: str, training: Numbers, seed: int) -> Path:
    """A run folder, trained on from the weights of ``start``."""
    values: dict[str, Any] = {
        "out": str(out / "run"),
        "seed": seed,
        "model": {"name": str(start / BEST), "attention": "eager"},
        "data": {"path": str(folder), "feature_cache": str(out / "features")},
        "train": {
            "method": "full",
            "train_tower": data == "photos",
            "steps": STEPS[data],
            "batch_size": 16,
            "learning_rate": 5e-4,
            "adam_beta2": 0.98,
            "weight_decay": 0.05,
            "bf16": True,
            "numbers": training,
        },
    }
    return train(recipe_from(values), overwrite=True)


def answered(run: Path, folder: Path, method: Numbers) -> dict[str, float | None]:
    """Price by key of the test rows; none where the answer could not be read."""
    model, processor, _ = load_run(run)
    task = DatasetFolder.open(folder).task
    rows = read_rows(folder, task, "test").rows
    settings = EvaluateSettings(batch_size=64, max_new_tokens=160, constrained=task == PHOTO_TASK)
    found = evaluate(predictor_of(model, processor, settings, method, task, [folder]), rows, task)
    (name,) = task.of_kind("number")
    pairs = zip(rows, found.predicted(name), strict=True)
    return {row.key: None if price is None else float(price) for row, price in pairs}


def summary(lines: list[dict[str, Any]], folders: dict[str, Path]) -> dict[str, Any]:
    """Figures of every way on every data set, each a mean and a standard deviation over seeds."""
    report: dict[str, Any] = {"steps": STEPS}
    for data, folder in folders.items():
        of_data = [line for line in lines if line["name"][0] == data and line["name"][3] == STEPS[data]]
        task = DatasetFolder.open(folder).task
        test = {row.key: row for row in read_rows(folder, task, "test").rows}
        bar = noise_left(folder, test) if data == "catalogue" else category_median(folder, task, test)
        report[data] = {
            "rows": len(test),
            "bar": {"name": "known noise" if data == "catalogue" else "category median", **figures(test, task, bar)},
            "methods": {
                method: per_method(
                    [line["answers"][method] for line in of_data if method in line["answers"]], test, task, bar
                )
                for method in METHODS
            },
        }
    return report


def per_method(
    seeds: list[dict[str, float | None]], test: dict[str, EvalRow], task: Task, bar: dict[str, float]
) -> dict[str, Any]:
    """Figures over seeds, and the paired bootstrap of the absolute error against the bar (mean over seeds by row)."""
    found = [figures(test, task, answers) for answers in seeds]
    result: dict[str, Any] = {"seeds": len(found)}
    for name in found[0] if found else ():
        values = [one[name] for one in found]
        result[name] = {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
    if found:
        theirs = np.stack([errors(test, task, answers) for answers in seeds]).mean(axis=0)
        gap = theirs - errors(test, task, bar)
        ends = interval(_mean, [gap])
        result["mae_less_bar"] = {"mean": float(gap.mean()), "interval": [ends.low, ends.high] if ends else None}
    return result


def _mean(values: Array, axis: int = -1) -> Any:
    return values.mean(axis=axis)


def errors(test: dict[str, EvalRow], task: Task, answers: dict[str, Any]) -> Array:
    """Absolute error of each row; an unread answer counts as 0."""
    (name,) = task.of_kind("number")
    return np.array([abs((answers[key] or 0.0) - float(row.truth[name])) for key, row in test.items()])


def figures(test: dict[str, EvalRow], task: Task, answers: dict[str, Any]) -> dict[str, float]:
    """MAE, median APE and SMAPE over the test rows."""
    (name,) = task.of_kind("number")
    truth = np.array([float(row.truth[name]) for row in test.values()])
    given = np.array([answers[key] or 0.0 for key in test])
    off = np.abs(given - truth)
    return {
        "mae": float(off.mean()),
        "median_ape": float(np.median(off / truth)),
        "smape": float((2 * off / (truth + given)).mean()),
    }


def noise_left(folder: Path, test: dict[str, EvalRow]) -> dict[str, float]:
    """What the price rule alone says: nobody who does not know the noise can be better."""
    truth = pq.read_table(folder / "attributes.parquet", columns=["product_code", "rule_price"]).to_pylist()
    return {line["product_code"]: line["rule_price"] for line in truth if line["product_code"] in test}


def category_median(folder: Path, task: Task, test: dict[str, EvalRow]) -> dict[str, float]:
    """The median price of the true category in the training half (of all of it where the category is not there)."""
    (price,), (category,) = task.of_kind("number"), task.of_kind("category")
    members: dict[str, list[float]] = {}
    for row in read_rows(folder, task, "train").rows:
        for name in (str(row.truth[category]), ""):
            members.setdefault(name, []).append(float(row.truth[price]))
    medians = {name: float(np.median(prices)) for name, prices in members.items()}
    return {key: medians.get(str(row.truth[category]), medians[""]) for key, row in test.items()}


def show(report: dict[str, Any]) -> None:
    """The tables."""
    for data in (name for name in STEPS if name in report):
        part, bar = report[data], report[data]["bar"]
        shares = f"median APE {bar['median_ape']:.1%}, SMAPE {bar['smape']:.1%}"
        print(f"\n{data}: {part['rows']} rows, {STEPS[data]} steps; {bar['name']}: MAE {bar['mae']:.2f}, {shares}")
        print("| numbers | seeds | MAE | MAE / bar | median APE | SMAPE | MAE - bar, 95 % |")
        print("|---|---|---|---|---|---|---|")
        for method, one in part["methods"].items():
            if one["seeds"]:
                print("| " + " | ".join([method, *cells(one, bar)]) + " |")


def cells(one: dict[str, Any], bar: dict[str, float]) -> Iterator[str]:
    """A line of a table."""
    low, high = one["mae_less_bar"]["interval"]
    yield str(one["seeds"])
    yield f"{one['mae']['mean']:.2f} ± {one['mae']['sd'] or 0:.2f}"
    yield f"{one['mae']['mean'] / bar['mae']:.2f}"
    yield f"{one['median_ape']['mean']:.1%} ± {one['median_ape']['sd'] or 0:.1%}"
    yield f"{one['smape']['mean']:.1%} ± {one['smape']['sd'] or 0:.1%}"
    yield f"{one['mae_less_bar']['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    main()
