"""The model as it was before training, asked about the same rows: what fine-tuning brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.data.folder import DatasetFolder
from phisight.evaluate import Predictions, alias, compare_predictions, deciding, figures
from phisight.pipelines.loading import TINY, Change, new_model
from phisight.pipelines.products import product_rows

BEFORE_ROWS = 100
"""Rows that the model before training answers unless told otherwise; the comparison is over these."""


def starting_model(
    recipe: Recipe, task: Task, rows: Sequence[Mapping[str, Any]], change: Change | None = None
) -> tuple[Any, Any]:
    """Model and processor that training starts from; of a tiny one the tokenizer is learned from the training rows."""
    texts = [task.prompt, *(task.render(row) for row in rows)]
    return new_model(recipe.model, texts, recipe.seed, change)


def base_model(recipe: Recipe, task: Task) -> tuple[Any, Any]:
    """The weights before training: the checkpoint that was tuned, or the untrained tiny model of the same seed.

    Raises:
        PhisightError: The checkpoint, or the training data of a tiny model, is no longer there.
    """
    rows: list[dict[str, Any]] = []
    if recipe.model.name == TINY:
        folder = DatasetFolder.open(recipe.data.path)
        rows = product_rows(folder, recipe, "train").rows[: recipe.data.train_rows]
    return starting_model(recipe, task, rows)


def about(recipe: Recipe) -> str:
    """What the base model is, in words."""
    if recipe.model.name == TINY:
        return f"the untrained tiny model of seed {recipe.seed}"
    return f"{recipe.model.name} without {'the adapters' if recipe.train.method != 'full' else 'training'}"


def before_and_after(before: Predictions, after: Predictions, told: str, *, seed: int = 0) -> dict[str, Any]:
    """Key ``before`` of scores.json: figures of the base model, of the tuned one on the same rows, and who is better.

    ``tuned_against`` holds the paired comparison tuned - base of the deciding metric, by field.
    """
    compared = compare_predictions(after, before, seed=seed)
    against = {}
    for name in after.task.names:
        field = alias(after.task, name)
        one = compared.get(f"{field}_{deciding(after.task.fields[name].kind).name}")
        against[field] = one.as_json() if one else None
    tuned = figures(after, seed=seed, resamples=0)
    return {"about": told, **figures(before, seed=seed), "tuned": tuned, "tuned_against": against}
