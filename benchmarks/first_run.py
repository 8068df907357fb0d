r"""What the first run reaches: the demo's recipe on catalogues of several seeds, scored on 1,000 rows of each.

    python benchmarks/first_run.py [--seeds 5] [--rows 1000] [--out DIR] [--set train.steps=400 ...]

Each seed draws a catalogue of its own and trains on as many rows as the demo does, from the base model that comes with
phisight (``--start nothing``: from nothing); nothing that is scored was seen in training. A finished seed adds a line
to OUT/results.jsonl; the same command continues after the last one. Ends with 1 where an aim is missed: means of
categories, whole titles and the median price error over the noise, certificate yes in each, the worst seed at most two
points below the mean, resident memory. Seconds are those of training alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from serving_aims import Aim, report

from phisight.cli import set_process_defaults
from phisight.core.recipe import recipe_from
from phisight.data.dataset.folder import DatasetFolder
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.demo import RECIPES, ROWS, Start
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.train import train

DRAWN_PER_ROW = 11
"""Rows drawn for each one that is scored: the test split holds a ninth of them, or somewhat less."""
CATEGORY, TITLE, PRICE, SPREAD = 0.97, 0.90, 1.4, 0.02
"""Categories and whole titles at least, price error over the noise at most, most that the worst seed is below."""
MOST_BYTES = 2e9


def trained_rows(out: Path) -> int:
    """Training rows of the demo's own catalogue."""
    folder = out / "demo-data"
    if not folder.is_dir():
        make(ROWS, folder, seed=0, settings=preset("demo"), workers=2)
    return len(DatasetFolder.open(folder).rows("train"))


def measured(seed: int, arguments: argparse.Namespace, train_rows: int) -> dict[str, Any]:
    """Figures of one seed."""
    out: Path = arguments.out / f"seed-{seed}"
    data = arguments.out / f"data-{seed}"
    if not data.is_dir():
        make(int(arguments.rows * DRAWN_PER_ROW), data, seed=seed, settings=preset("demo"), workers=2)
    chosen = RECIPES[arguments.start]
    values = {
        **chosen,
        "out": str(out),
        "seed": seed,
        "data": {"path": str(data), "train_rows": train_rows},
        "evaluate": {**chosen["evaluate"], "rows": arguments.rows},
    }
    began = time.monotonic()
    train(recipe_from(values, arguments.set, source="the demo"), overwrite=True)
    seconds = time.monotonic() - began
    scores = evaluate_run(out, base_model_rows=0)
    noise = json.loads((data / "sample.json").read_text(encoding="utf-8"))["best_price_median_ape"]
    return {
        "seed": seed,
        "rows": scores["rows"],
        "category": scores["category_accuracy"],
        "title": scores["title_exact"],
        "price": scores["price_median_ape"] / noise,
        "certificate": scores["grounding"]["conclusion"],
        "train_s": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def aims(found: list[dict[str, Any]]) -> list[Aim]:
    """Each aim beside what was measured."""
    means = {name: mean(one[name] for one in found) for name in ("category", "title", "price")}
    drops = {name: means[name] - min(one[name] for one in found) for name in ("category", "title")}
    unsure = sum(one["certificate"] != "yes" for one in found)
    peak = max(one["peak_bytes"] for one in found)
    return [
        Aim("categories right", means["category"], f">= {CATEGORY:g}", means["category"] >= CATEGORY),
        Aim("whole titles right", means["title"], f">= {TITLE:g}", means["title"] >= TITLE),
        Aim("price error / noise", means["price"], f"<= {PRICE:g}", means["price"] <= PRICE),
        *(Aim(f"{name}: mean less worst seed", drop, f"<= {SPREAD:g}", drop <= SPREAD) for name, drop in drops.items()),
        Aim("seeds without a yes of the certificate", unsure, "0", unsure == 0),
        Aim("peak memory, GB", peak / 1e9, f"<= {MOST_BYTES / 1e9:g}", peak <= MOST_BYTES),
    ]


def main() -> int:
    """Measure the seeds that are missing; table and aims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000, help="test rows that are scored")
    parser.add_argument("--start", choices=get_args(Start), default="tiny-base")
    parser.add_argument("--out", type=Path, default=Path("runs/first-run"))
    parser.add_argument("--set", action="append", default=[], help="a setting of the recipe, as in phisight train")
    arguments = parser.parse_args()
    set_process_defaults()  # which the processes of the seeds inherit
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "results.jsonl"
    found = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    train_rows = trained_rows(arguments.out)
    for seed in range(len(found), arguments.seeds):
        # a process for each seed: its peak memory is its own
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(measured, seed, arguments, train_rows).result())
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found[-1]) + "\n")
        print(json.dumps(found[-1]))
    return report(aims(found))


if __name__ == "__main__":
    sys.exit(main())
