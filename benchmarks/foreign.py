r"""Foreign images: how many get a value invented, how many real ones are refused, and what that costs real answers.

    phisight demo --start nothing --out runs/demo
    python benchmarks/foreign.py --start runs/demo [--seeds 5] [--steps 300] [--rows 300]    trains, answers, table
    python benchmarks/foreign.py --start runs/photos --split test    asks about rows of the start's own data set
    ... --photos FOLDER    and about photos that are foreign to the task, beside the drawn images

Every seed trains the demo's weights on twice with the same rows and steps: as they are (``plain``), and with a tenth of
the examples showing drawn foreign images (``abstain``). Both answer products drawn for the seed, which no model has
seen, and foreign images of kinds that no training has shown. Goals: invented values on at most 5 % of the foreign
images, at most 2 % of the real ones refused, and right answers to real images no fewer than without (interval of the
difference: paired bootstrap over products of all seeds). Refused is what the model says shows nothing, and what is over
the threshold of ``unfamiliar``, which is fitted on each model's training images with a threshold that 1 % of the
validation images exceed; ``over threshold`` is the share over it alone, ``the model's words`` what the answers reach
without it. With --split all seeds are asked about the same products, each of which counts once in the intervals; of
--photos each seed is shown others. A finished training adds a line to OUT/results.jsonl; the same command continues
after the last one.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phisight.core.dataset_folder import SPLITS, Split
from phisight.core.recipe import recipe_from
from phisight.core.run_folder import BEST
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.foreign_images import read_foreign
from phisight.data.dataset.image_groups import recorded_sizes
from phisight.evaluate import EvalRow, evaluate, paired_difference, read_rows
from phisight.evaluate.limits.foreign import (
    foreign_figures,
    foreign_rows,
    grouped_share,
    refused_rows,
    refusing,
    share,
)
from phisight.evaluate.metrics import is_right
from phisight.evaluate.statistics.group_test import MEAN
from phisight.export.subject import find_data, read_run, task_of_run
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.sample.foreign.foreign_folder import HELD_OUT, make_foreign
from phisight.workflows.load import load_run
from phisight.workflows.predict import TowerFeatures, fitted_familiarity, predictor_of, unfamiliar_scores
from phisight.workflows.train import train

SHARE, FOREIGN_IMAGES, FRESH_SEED, RESULTS = 0.1, 200, 400, "results.jsonl"


def trained(start: Path, out: Path, seed: int, steps: int, portion: float) -> Path:
    """A run folder, trained on from the weights of ``start``."""
    recipe = read_run(start)
    settings = {"method": "full", "train_tower": True, "batch_size": 16, "adam_beta2": 0.98, "weight_decay": 0.05}
    values = {
        "out": str(out),
        "seed": seed,
        "model": {"name": str(start / BEST), "attention": "eager"},
        "data": {"path": str(find_data(start, recipe)), "feature_cache_gb": 0},
        "train": {
            **settings,
            "bf16": True,
            "numbers": "text",
            "steps": steps,
            "learning_rate": 5e-4,
            "evaluate_every": steps,
            "abstain": {"share": portion},
        },
    }
    return train(recipe_from(values), overwrite=True)


def measured(run: Path, asked: Path, split: Split, foreign: dict[str, Path], seed: int) -> dict[str, Any]:
    """What a run answers about products, about foreign images, and about foreign photos."""
    model, processor, recipe = load_run(run)
    model.eval()
    task, data = task_of_run(run, recipe), recipe.data.path
    settings = recipe.evaluate.model_copy(update={"batch_size": 32})
    predictor = predictor_of(model, processor, settings, "text", task, [data], run=run, continuous=True)
    features = TowerFeatures(model, processor)
    known = fitted_familiarity(
        features,
        read_rows(data, task, "train", limit=1000).rows,
        read_rows(data, task, "validation", limit=1000).rows,
        settings.false_alarms,
    )
    rows = read_rows(asked, task, split).rows
    sets = {"real": rows} | {name: shown_of(folder, task, seed) for name, folder in foreign.items()}
    written = {name: evaluate(predictor, some, task) for name, some in sets.items()}
    scores = {name: unfamiliar_scores(known, features, some) for name, some in sets.items()}
    answers = {name: refusing(one, scores[name]) if task.abstains else one for name, one in written.items()}
    real = answers["real"]
    right = {
        name: [
            values is not None and is_right(task, name, row.truth[name], values[name])
            for row, values in zip(rows, real.parsed, strict=True)
        ]
        for name in task.names
    }
    return {
        "right": right,
        "groups": real.groups,
        "refused_rows": refused_rows(real),
        "over_rows": [one > 1 for one in scores["real"]],
        "words": {"refused_rows": refused_rows(written["real"])},
        **{
            name: {
                **foreign_figures(answers[name]),
                "words": foreign_figures(written[name])["invented"],
                "over": share([one > 1 for one in scores[name]]),
            }
            for name in foreign
        },
    }


def shown_of(folder: Path, task: Task, seed: int) -> list[EvalRow]:
    """FOREIGN_IMAGES of a folder's images as rows without a value, others for each seed as long as there are enough."""
    images = read_foreign(folder)
    order = np.random.default_rng(FRESH_SEED).permutation(len(images.rows))
    chosen = sorted(np.roll(order, -seed * FOREIGN_IMAGES)[:FOREIGN_IMAGES].tolist())
    return foreign_rows(images.folder, [images.rows[index] for index in chosen], task)


def lines_of(results: Path) -> list[dict[str, Any]]:
    """The finished trainings."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.is_file() else []


def measure(
    start: Path,
    out: Path,
    seeds: Sequence[int],
    steps: int,
    rows: int,
    split: Split | None = None,
    photos: Path | None = None,
) -> None:
    """Train and answer what is not there yet; a ``split`` of the start's data stands in for drawn products."""
    results = out / RESULTS
    done = {(line["seed"], line["training"]) for line in lines_of(results)}
    for seed in seeds:
        drawn = out / f"foreign-{seed}"
        asked = find_data(start, read_run(start)) if split else out / f"fresh-{seed}"
        if not asked.is_dir():
            make(rows, asked, seed=FRESH_SEED + seed, settings=preset("demo"))
        if not drawn.is_dir():
            sizes = recorded_sizes(DatasetFolder.open(asked).rows())
            make_foreign(FOREIGN_IMAGES, drawn, seed=FRESH_SEED + seed, kinds=list(HELD_OUT), sizes=sizes)
        foreign = {"foreign": drawn} | ({"photos": photos} if photos else {})
        for training, portion in (("plain", 0.0), ("abstain", SHARE)):
            if (seed, training) in done:
                continue
            run = trained(start, out / "run", seed, steps, portion)
            found = measured(run, asked, split or "train", foreign, seed)
            line = {"seed": seed, "training": training, "steps": steps, "split": split, **found}
            shutil.rmtree(run)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            invented, refusals = line["foreign"]["invented"]["share"], float(np.mean(line["refused_rows"]))
            print(f"seed {seed}, {training}: invented {invented:.1%}, refused {refusals:.1%}", flush=True)


def table(lines: Sequence[dict[str, Any]]) -> None:
    """Print the figures of all seeds together."""
    sets = [name for name in ("foreign", "photos") if all(name in line for line in lines)]
    columns = [f"{name}: {what}" for name in sets for what in ("value invented", "the model's words", "over threshold")]
    columns += ["real: refused", "the model's words", "over threshold"]
    print("| training | seeds | " + " | ".join(columns) + " |\n" + "|---" * (2 + len(columns)) + "|")
    for training in ("plain", "abstain"):
        some = [line for line in lines if line["training"] == training]
        if not some:
            continue
        found = [
            together([line[name][what] for line in some]) for name in sets for what in ("invented", "words", "over")
        ]
        flags = [[line["refused_rows"] for line in some], [line["words"]["refused_rows"] for line in some]]
        groups = groups_of(some)
        for one in (*flags, [line["over_rows"] for line in some]):
            found.append(shown(grouped_share([bool(value) for values in one for value in values], groups)))
        print(f"| {training} | {len(some)} | " + " | ".join(found) + " |")
    kinds = sorted({kind for line in lines for kind in line["foreign"]["by_kind"]})
    for kind in kinds:
        some = [line["foreign"]["by_kind"][kind] for line in lines if line["training"] == "abstain"]
        if some:
            print(f"invented, {kind}: {together(some)}")
    differences(lines)


def differences(lines: Sequence[dict[str, Any]]) -> None:
    """Print the right answers with and without foreign images, on the seeds that have both."""
    seeds = sorted({line["seed"] for line in lines})
    pairs = [{line["training"]: line for line in lines if line["seed"] == seed} for seed in seeds]
    pairs = [pair for pair in pairs if len(pair) == 2]
    for name in pairs[0]["plain"]["right"] if pairs else ():
        left, right = (
            np.concatenate([np.asarray(pair[one]["right"][name], float) for pair in pairs])
            for one in ("abstain", "plain")
        )
        gap, ends = paired_difference(MEAN, (left,), (right,), groups_of([pair["plain"] for pair in pairs]))
        interval = f" ({ends.low:+.1%} to {ends.high:+.1%})" if ends else ""
        print(f"right {name}: {left.mean():.1%} with foreign images, {right.mean():.1%} without, {gap:+.1%}{interval}")


def groups_of(lines: Sequence[dict[str, Any]]) -> list[str]:
    """What counts once in an interval: drawn products are others for each seed, those of a split the same for all."""
    return [f"{'' if line['split'] else line['seed']} {group}" for line in lines for group in line["groups"]]


def together(shares: Sequence[dict[str, Any]]) -> str:
    """Shares of all seeds as one, with Wilson's interval."""
    counted, of = sum(one["count"] for one in shares), sum(one["of"] for one in shares)
    return shown(share([True] * counted + [False] * (of - counted)))


def shown(one: dict[str, Any]) -> str:
    """A share as text."""
    low, high = one["interval"]
    return f"{one['share']:.1%} ({low:.1%} to {high:.1%}) of {one['of']}"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="run folder of the demo")
    parser.add_argument("--out", type=Path, default=Path("runs/foreign"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=300, help="products that are drawn and answered")
    parser.add_argument("--split", choices=SPLITS, help="answer this split of the start's own data set instead")
    parser.add_argument("--photos", type=Path, help="folder of photos foreign to the task, asked about as well")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if not chosen.table:
        seeds = range(chosen.seeds)
        measure(chosen.start, chosen.out, seeds, chosen.steps, chosen.rows, chosen.split, chosen.photos)
    table(lines_of(chosen.out / RESULTS))


if __name__ == "__main__":
    main()
