r"""Which answers had better be none: does a spread per row name the answers that are far off?

    phisight demo --start nothing --out runs/demo
    python benchmarks/abstaining.py --start runs/demo [--seeds 5] [--rows 400]      trains and answers, seed by seed
    python benchmarks/abstaining.py --start runs/demo --table [--json FILE]         prints the table

Every seed trains the demo's weights on for a few steps, once with digits as text and once with a number head, and
answers about products drawn for it that no model has seen. Measures of doubt are taken of every answered number:

    spread          of the model's distribution over digit strings: mean distance of its logarithm from the median
    improbability   minus the logarithm of the probability of the digits that were written
    disagreement    distance between the logarithms of the head's number and of the digits in the text (head only)
    answer          the number itself, which is no doubt: what a rule "look at the dear ones" would find

The first half of the products fits split-conformal intervals (80 %), of one width and of a width that follows the
measure (errors divided by measure + its mean); the second half says how much error the tenth of the rows carries that
is most in doubt, against what a random tenth would: 1.00 means that abstaining there helps nobody. Intervals: bootstrap
over products (the colors of one design count once) of all seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from price_figures import rows_of

from phisight.core.kinds.kind import as_number
from phisight.core.recipe import recipe_from
from phisight.core.run_folder import BEST
from phisight.core.settings import EvaluateSettings, Numbers
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import EvalRow, SplitConformal
from phisight.evaluate.statistics.bootstrap import group_codes
from phisight.evaluate.statistics.resamples import Resamples
from phisight.export.subject import read_run
from phisight.generate import ExpectedNumbers, HeadNumbers, Predictor, Request
from phisight.generate.number_decoding import Generated, Rewritten, weighted_median
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.load import load_run
from phisight.workflows.predict import predictor_of
from phisight.workflows.train import train

TRAININGS: tuple[Numbers, ...] = ("text", "head")
MEASURES = ("spread", "improbability", "answer", "disagreement")
STEPS, RATE = 80, 5e-4
FRESH_SEED = 300
LEVEL, TENTH = 0.8, 0.1
NEVER = 10**9

Array = NDArray[np.float64]


class Doubts(ExpectedNumbers):
    """Leaves the numbers of answers as they are and notes how sure the model was of each."""

    def __init__(self, task: Task, tokenizer: Any, head: HeadNumbers | None) -> None:
        super().__init__(task, tokenizer)
        self._head = head
        self.noted: deque[dict[str, float] | None] = deque()

    def capture(self, model: Any) -> Any:
        """What the head needs, where there is one."""
        return self._head.capture(model) if self._head else super().capture(model)

    def rewrite(self, model: Any, generated: Generated) -> list[Rewritten]:
        """The answers; ``noted`` gets the measures of each, in their order."""
        rewritten = self._head.rewrite(model, generated) if self._head else [Rewritten(one) for one in generated.texts]
        texts = [one.text for one in rewritten]
        (name,) = self._task.of_kind("number")
        prompt = generated.inputs["input_ids"].shape[1]
        places = [generated.number_positions(self._task, self._bytes, row) for row in range(len(texts))]
        cuts = {row: prompt + known[name] for row, known in enumerate(places) if known}
        found = (
            self._search.strings(model, generated.inputs, generated.ids, cuts, image_counts=generated.image_counts)
            if cuts
            else {}
        )
        for row, text in enumerate(texts):
            own, written = (self._task.parse(one).values for one in (text, generated.texts[row]))
            values = [as_number(one[name]) for one in (own, written) if one is not None]
            readable = row in found and len(values) == 2 and values[1] > 0
            self.noted.append(_measures(found[row], *values) if readable else None)
        return rewritten


def _measures(strings: Mapping[float, float], answer: float, written: float) -> dict[str, float] | None:
    positive = {number: share for number, share in strings.items() if number > 0 and share > 0}
    if not positive or answer <= 0:
        return None
    middle, mass = math.log(weighted_median(positive)), sum(positive.values())
    return {
        "answer": answer,
        "spread": sum(share * abs(math.log(number) - middle) for number, share in positive.items()) / mass,
        "improbability": -math.log(max(positive.get(written, 0.0), 1e-6)),
        "disagreement": abs(math.log(answer) - math.log(written)),
    }


def measure(start: Path, out: Path, results: Path, seeds: Sequence[int], rows: int) -> None:
    """Train and answer what ``results`` does not hold yet."""
    done = {(line["training"], line["seed"]) for line in lines_of(results)}
    for seed in seeds:
        for training in TRAININGS:
            if (training, seed) in done:
                continue
            run = trained(start, out / "run", training, seed)
            answers = answered(run, fresh(out / f"fresh-{seed}", seed, rows), training)
            shutil.rmtree(run)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"training": training, "seed": seed, "answers": answers}) + "\n")
            print(f"{training}, seed {seed}: {len(answers)} answers", flush=True)


def fresh(folder: Path, seed: int, rows: int) -> Path:
    """Products that no model has seen."""
    if not folder.is_dir():
        make(2 * rows, folder, seed=FRESH_SEED + seed, settings=preset("demo"))
    return folder


def trained(start: Path, out: Path, training: Numbers, seed: int) -> Path:
    """A run folder, trained on from the weights of ``start``."""
    settings = {"method": "full", "batch_size": 16, "adam_beta2": 0.98, "weight_decay": 0.05, "bf16": True}
    values = {
        "out": str(out),
        "seed": seed,
        "model": {"name": str(start / BEST), "attention": "eager"},
        "data": {"path": str(read_run(start).data.path), "feature_cache_gb": 0},
        "train": {**settings, "numbers": training, "steps": STEPS, "learning_rate": RATE, "evaluate_every": NEVER},
    }
    return train(recipe_from(values), overwrite=True)


def answered(run: Path, folder: Path, training: Numbers) -> list[dict[str, Any]]:
    """Truth, answer and measures of every row whose number could be read."""
    model, processor, _ = load_run(run)
    task = DatasetFolder.open(folder).task
    (name,) = task.of_kind("number")
    head = HeadNumbers(task, processor.tokenizer) if training == "head" else None
    doubts = Doubts(task, processor.tokenizer, head)
    plain = predictor_of(model, processor, EvaluateSettings(), "text", task, [folder])
    predictor = Predictor(model, processor, batch_size=32, max_new_tokens=plain.max_new_tokens, numbers=doubts)
    rows: Sequence[EvalRow] = rows_of(folder)
    found = []
    for index, _ in predictor.generations(Request(task.prompt, row.images) for row in rows):
        measures = doubts.noted.popleft()
        if measures is not None:
            found.append({"group": rows[index].group, "truth": as_number(rows[index].truth[name]), **measures})
    return found


def lines_of(results: Path) -> list[dict[str, Any]]:
    """The finished seeds."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.is_file() else []


def halves(groups: Sequence[str]) -> NDArray[np.bool_]:
    """bool[n]: the row belongs to the first half of the products."""
    codes = group_codes(groups, len(groups))
    first = np.random.default_rng(0).permutation(codes.max() + 1) < (codes.max() + 1) // 2
    return np.asarray(first[codes])


def judged(lines: Sequence[Mapping[str, Any]], measure_name: str) -> dict[str, Any]:
    """Coverage, widths, and the error of the tenth most in doubt, over all seeds of one training."""
    coverage, widths, flagged, errors, groups = [], [], [], [], []
    for line in lines:
        rows = line["answers"]
        truth, answer, doubt = (np.asarray([row[key] for row in rows]) for key in ("truth", "answer", measure_name))
        names = [row["group"] for row in rows]
        fit = halves(names)
        check = ~fit
        scale = (doubt + doubt[fit].mean()) if doubt[fit].mean() > 0 else np.ones_like(doubt)
        error = np.abs(np.log(answer) - np.log(truth))
        behind, ahead = ([name for name, one in zip(names, side, strict=True) if one] for side in (fit, check))
        # A factor of exp(error / scale): the conformal fit of errors that are divided by their row's scale.
        plain, scaled = (
            SplitConformal.fit(np.ones(int(fit.sum())), np.exp(np.minimum(one[fit], 600.0)), LEVEL, behind).radius
            for one in (error, error / scale)
        )
        coverage.append([float((error[check] <= plain).mean()), float((error <= scaled * scale)[check].mean())])
        widths.append([plain, float(np.median(scaled * scale[check]))])
        order = np.argsort(-doubt[check], kind="stable")
        chosen = np.zeros(len(order), bool)
        chosen[order[: round(TENTH * len(order))]] = True
        flagged.append(chosen)
        errors.append(np.stack([error[check], np.abs(answer - truth)[check]]))
        groups += [f"{line['seed']} {name}" for name in ahead]
    ratios = [ratio(np.concatenate(flagged), np.concatenate([one[kind] for one in errors]), groups) for kind in (0, 1)]
    return {
        "seeds": len(lines),
        "rows": len(groups),
        "products": len(set(groups)),
        "coverage_one_width": float(np.mean(coverage, axis=0)[0]),
        "coverage_by_row": float(np.mean(coverage, axis=0)[1]),
        "radius_one_width": float(np.mean(widths, axis=0)[0]),
        "median_radius_by_row": float(np.mean(widths, axis=0)[1]),
        "log_error_ratio": ratios[0],
        "error_ratio": ratios[1],
        "by_seed": [ratio(one, two[0], None)["ratio"] for one, two in zip(flagged, errors, strict=True)],
    }


def ratio(flagged: NDArray[np.bool_], errors: Array, groups: Sequence[str] | None) -> dict[str, Any]:
    """Mean error of the flagged rows over the mean of all rows, which is a random tenth's; interval over products."""
    value = float(errors[flagged].mean() / errors.mean())
    if groups is None:
        return {"ratio": value}
    codes = group_codes(groups, len(groups))
    columns = [flagged * errors, flagged.astype(float), errors, np.ones(len(errors))]
    sums = np.stack([np.bincount(codes, weights=column) for column in columns], axis=-1)
    drawn = np.concatenate([chunk.astype(float) @ sums for chunk in Resamples(len(sums), 1000, 0).chunks()])
    low, high = np.percentile((drawn[:, 0] / drawn[:, 1]) / (drawn[:, 2] / drawn[:, 3]), [2.5, 97.5]).tolist()
    return {"ratio": value, "low": low, "high": high}


def main() -> None:
    """Train what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="run folder of a model trained with digits as text")
    parser.add_argument("--out", type=Path, default=Path("runs/abstaining"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=400, help="products of each half")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    results = chosen.out / "results.jsonl"
    if not chosen.table:
        measure(chosen.start, chosen.out, results, range(chosen.seeds), chosen.rows)
    report: dict[str, Any] = {}
    print(
        "| numbers | measure | error of the tenth, over a random tenth (log) | in USD | by seed | coverage | radius |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for training in TRAININGS:
        lines = [line for line in lines_of(results) if line["training"] == training]
        for name in MEASURES if training == "head" else MEASURES[:3]:
            if not lines:
                continue
            one = report[f"{training}, {name}"] = judged(lines, name)
            logs, dollars = (
                f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
                for found in (one["log_error_ratio"], one["error_ratio"])
            )
            seeds = " ".join(f"{value:.2f}" for value in one["by_seed"])
            covered = f"{one['coverage_one_width']:.1%} / {one['coverage_by_row']:.1%}"
            radius = f"{one['radius_one_width']:.3f} / {one['median_radius_by_row']:.3f}"
            print(f"| {training} | {name} | {logs} | {dollars} | {seeds} | {covered} | {radius} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
