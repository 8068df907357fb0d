"""How often the grounding certificate is wrong: blind models that must not get a yes, weak ones that must.

    python benchmarks/certificate.py [--trials 150] [--only KIND ...] [--json FILE]

Every trial draws a catalogue, a model and its answers and asks the package's own ``certificate``. A blind model's
beliefs depend on the image, but say nothing about the truth:

    by product      another belief for each product, the same for all of its photos
    by photo        another belief for each photo
    by confidence   one answer for all, whose price and certainty jump with the product (heavy tails)
    by group size   as many beliefs as products have different numbers of photos
    by row order    beliefs that drift along the table, in which the photos of a product stand side by side
    by file size    beliefs that follow the bytes of the file shown, which products share but say nothing of them
    by batch        one belief for all answers of a batch of 16, batches put together by the shapes of the images shown
    by prompt       the truth is known without the image, which only adds noise

A weak model's beliefs move 5 % of the way from the mean to what its own image shows. Exit code 1 when a promise of
docs/evaluation.md is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from phisight.core.task import Task
from phisight.evaluate import EvalRow, Images, Predictions, certificate
from phisight.evaluate.image_conditions import shown_rows
from phisight.generate import Likelihood

TASK = Task(
    answer="Product: {title}, Category: {category}, Price: {price}",
    fields={"title": "text", "category": "category", "price": "number"},
)
KINDS, WORDS, WORDS_A_TITLE = 8, 40, 3
GAIN = 8.0
"""Logit that a model of full strength gives to what its image shows."""
LOG_PRICE, SPREAD = 4.0, 0.8
DESIGNS = {"182 products, 337 photos": None, "24 x 10": (24, 10), "12 x 20": (12, 20), "300 x 1": (300, 1)}
BLIND = (
    "by product",
    "by photo",
    "by confidence",
    "by group size",
    "by row order",
    "by file size",
    "by batch",
    "by prompt",
)
BATCH = 16
WEAK = "5 % of its own features"
MODES: tuple[Images, ...] = ("real", "shuffled", "same_grid")
LEVEL, MOST_FALSE, MOST_IN_A_CELL, LEAST_POWER = 0.95, 0.01, 3, 0.80

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Catalogue:
    """True fields of every row."""

    product: NDArray[np.int64]
    category: NDArray[np.int64]
    log_price: Array
    words: NDArray[np.int64]
    """int64[n, WORDS_A_TITLE]."""

    def rows(self, generator: np.random.Generator) -> list[EvalRow]:
        """Rows of the evaluation; three image shapes."""
        shapes = generator.integers(0, 3, len(self.product))
        return [
            EvalRow(
                key=f"P{self.product[row]}",
                image=Path(f"{row}.png"),
                truth=fields(self.category[row], self.log_price[row], self.words[row]),
                expected=str(row),
                content=str(row),
                sizes=(((400, 400), (300, 400), (400, 300))[shapes[row]],),
            )
            for row in range(len(self.product))
        ]


@dataclass(frozen=True)
class Beliefs:
    """What a model believes, by image or by row: logits of categories and words, and a normal of the log price."""

    category: Array
    words: Array
    mean: Array
    deviation: Array

    def answers(self) -> list[dict[str, Any]]:
        """The most probable fields of each image."""
        best = np.argsort(-self.words, axis=1, kind="stable")[:, :WORDS_A_TITLE]
        return [fields(*one) for one in zip(self.category.argmax(axis=1), self.mean, best, strict=True)]

    def of(self, images: NDArray[np.int64]) -> Beliefs:
        """By row: those about the image each row is shown."""
        return Beliefs(self.category[images], self.words[images], self.mean[images], self.deviation[images])

    def knowing(self, truth: Catalogue) -> Beliefs:
        """By row: with the row's own truth given away beside the image."""
        rows = np.arange(len(truth.product))
        category, words = self.category.copy(), self.words.copy()
        category[rows, truth.category] += GAIN
        words[rows[:, None], truth.words] += GAIN
        return Beliefs(category, words, 0.9 * truth.log_price + 0.1 * self.mean, self.deviation / 4)

    def log_probability(self, truth: Catalogue) -> Array:
        """float64[n]: of the true fields of each row."""
        rows = np.arange(len(truth.product))
        category = log_softmax(self.category)[rows, truth.category]
        words = log_softmax(self.words)[rows[:, None], truth.words].sum(axis=1)
        off = (truth.log_price - self.mean) / self.deviation
        return np.asarray(category + words - off**2 / 2 - np.log(self.deviation))


def fields(category: int, log_price: float, words: NDArray[np.int64]) -> dict[str, Any]:
    title = " ".join(f"word{word}" for word in sorted(words.tolist()))
    return {"title": title, "category": f"KIND {category}", "price": round(float(np.exp(log_price)), 2)}


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def draw_catalogue(design: tuple[int, int] | None, generator: np.random.Generator) -> Catalogue:
    """Products with as many photos each; None: 182 products with one to four photos, 337 in all."""
    if design is None:
        extra = np.bincount(generator.integers(0, 182, 337 - 182), minlength=182)
        photos = 1 + extra
    else:
        photos = np.full(design[0], design[1])
    product = np.repeat(np.arange(len(photos)), photos)
    category = generator.integers(0, KINDS, len(photos))[product]
    log_price = generator.normal(LOG_PRICE, SPREAD, len(photos))[product]
    words = np.stack([generator.choice(WORDS, WORDS_A_TITLE, replace=False) for _ in photos])[product]
    return Catalogue(product, category, log_price, words)


def draw_beliefs(kind: str, truth: Catalogue, generator: np.random.Generator) -> Beliefs:
    """Beliefs of one model about every image."""
    rows = len(truth.product)
    category, words = (
        np.tile(generator.normal(0, 1, KINDS), (rows, 1)),
        np.tile(generator.normal(0, 1, WORDS), (rows, 1)),
    )
    mean, deviation = np.full(rows, LOG_PRICE), np.full(rows, SPREAD)
    if kind == WEAK:
        seen = 0.05 * GAIN
        category[np.arange(rows), truth.category] += seen
        words[np.arange(rows)[:, None], truth.words] += seen
        photo = generator.normal(0, SPREAD / 2, rows)
        return Beliefs(category, words, mean + 0.05 * (truth.log_price + photo - LOG_PRICE), deviation)
    at = belief_of_image(kind, truth, generator)
    count = int(at.max()) + 1
    if kind == "by confidence":
        sharpness = np.exp(generator.normal(0, 1.0, count))[at]
        jump = 0.3 * generator.standard_t(2, count)[at]
        return Beliefs(category * sharpness[:, None], words * sharpness[:, None], mean + jump, deviation / sharpness)
    strong = generator.uniform(1, 4)
    columns = generator.normal(0, 1, (count, KINDS + WORDS + 1))
    if kind in ("by row order", "by file size"):  # neighbors believe alike
        columns = np.cumsum(columns, axis=0) / np.sqrt(np.arange(1, count + 1))[:, None]
    category = category + strong * columns[at, :KINDS]
    words = words + strong * columns[at, KINDS:-1]
    return Beliefs(category, words, mean + SPREAD * columns[at, -1], deviation)


def belief_of_image(kind: str, truth: Catalogue, generator: np.random.Generator) -> NDArray[np.int64]:
    """int64[n]: images of one number are believed to be the same."""
    rows = len(truth.product)
    if kind in ("by photo", "by row order", "by batch"):
        return np.arange(rows)
    if kind == "by group size":
        return np.asarray(np.bincount(truth.product)[truth.product], np.int64)
    if kind == "by file size":
        of_product = generator.normal(0, 1, int(truth.product.max()) + 1)[truth.product]
        return np.argsort(np.argsort(of_product + generator.normal(0, 0.3, rows)))
    return truth.product


def seen(kind: str, beliefs: Beliefs, images: NDArray[np.int64], rows: list[EvalRow], truth: Catalogue) -> Beliefs:
    """What the model believes about each row when it is shown these images."""
    if kind == "by batch":
        order = np.asarray(sorted(range(len(rows)), key=lambda row: rows[images[row]].sizes))
        images = images.copy()
        for start in range(0, len(order), BATCH):
            images[order[start : start + BATCH]] = images[order[start]]
    found = beliefs.of(images)
    return found.knowing(truth) if kind == "by prompt" else found


def trial(kind: str, design: tuple[int, int] | None, seed: int, *, independent: bool = False) -> dict[str, Any]:
    """The certificate of one model on one catalogue; ``independent`` takes every photo for a product of its own."""
    generator = np.random.default_rng(seed)
    truth = draw_catalogue(design, generator)
    beliefs, rows = draw_beliefs(kind, truth, generator), truth.rows(generator)
    if independent:
        rows = [replace(row, group=str(number)) for number, row in enumerate(rows)]
    every: dict[Images, Predictions] = {}
    found: dict[Images, dict[int, Likelihood]] = {}
    sample = np.sort(generator.permutation(len(rows))[:256])
    for mode in MODES:
        shown = shown_rows(rows, TASK, mode, seed)
        images = np.asarray(shown, np.int64)
        believed = seen(kind, beliefs, images, rows, truth)
        parsed = believed.answers()
        nothing: list[None] = [None] * len(rows)
        every[mode] = Predictions(TASK, mode, rows, shown, [""] * len(rows), parsed, nothing)
        gained = believed.log_probability(truth)
        found[mode] = {int(row): Likelihood(float(gained[row]), 1, "") for row in sample}
    return certificate(every, found, seed=seed)


def upper_bound(wrong: int, trials: int) -> float:
    """Upper 95 % bound (Clopper-Pearson, one-sided) of a rate."""
    return float(beta.ppf(LEVEL, wrong + 1, trials - wrong)) if wrong < trials else 1.0


def simulate(trials: int, seed: int = 0, kinds: Sequence[str] = (*BLIND, WEAK)) -> dict[str, Any]:
    """Counts of each conclusion by kind of model and design."""
    cells: dict[str, dict[str, dict[str, int]]] = {}
    for kind in kinds:
        for name, design in DESIGNS.items():
            if kind == WEAK and design is not None:
                continue
            counts: dict[str, int] = {}
            for number in range(trials):
                conclusion = trial(kind, design, seed + number)["conclusion"]
                counts[conclusion] = counts.get(conclusion, 0) + 1
            cells.setdefault(kind, {})[name] = counts
    blind = {kind: designs for kind, designs in cells.items() if kind != WEAK}
    false_yes = {
        (kind, name): counts.get("yes", 0) for kind, designs in blind.items() for name, counts in designs.items()
    }
    found = next(iter(cells[WEAK].values())).get("yes", 0) / trials if WEAK in cells else None
    wrong, total = sum(false_yes.values()), trials * len(false_yes)
    return {
        "trials": trials,
        "cells": cells,
        "false_yes": wrong,
        "blind_trials": total,
        "false_yes_upper_bound": upper_bound(wrong, total),
        "most_in_a_cell": max(false_yes.values(), default=0),
        "power": found,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[*BLIND, WEAK], default=[*BLIND, WEAK], help="kinds of models")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    begun = time.perf_counter()
    found = simulate(chosen.trials, chosen.seed, chosen.only)
    print("| model | design | yes | shape only | no | too few |\n| --- | --- | --- | --- | --- | --- |")
    for kind, designs in found["cells"].items():
        for name, counts in designs.items():
            columns = " | ".join(str(counts.get(one, 0)) for one in ("yes", "shape only", "no", "too few"))
            print(f"| {kind} | {name} | {columns} |")
    bound, power = found["false_yes_upper_bound"], found["power"]
    print(
        f"\nfalse yes: {found['false_yes']} of {found['blind_trials']} trials (upper 95 % bound {bound:.2%}), at most "
        f"{found['most_in_a_cell']} in a cell"
        + (f"; found at 5 % strength: {power:.1%}" if power is not None else "")
        + f"; {time.perf_counter() - begun:.0f} s"
    )
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    kept = found["most_in_a_cell"] <= MOST_IN_A_CELL and (power is None or power >= LEAST_POWER)
    return 0 if kept and (bound <= MOST_FALSE or chosen.trials < 150) else 1


if __name__ == "__main__":
    sys.exit(main())
