"""The model as it was before training, asked about the same rows: what fine-tuning brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoProcessor

from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.evaluate import Predictions, alias, compare_predictions, deciding, figures
from phisight.model.tiny import tiny_model
from phisight.workflows.load import TINY, Change, load_model, new_model

BEFORE_ROWS = 100
"""Rows that the model before training answers unless told otherwise; the comparison is over these."""


def starting_model(
    recipe: Recipe, task: Task, rows: Sequence[Mapping[str, Any]], change: Change | None = None
) -> tuple[Any, Any]:
    """Model and processor that training starts from; of a tiny one the tokenizer is learned from the training rows."""
    texts = [task.prompt, *(task.render(row) for row in rows)]
    return new_model(recipe.model, texts, recipe.seed, change)


def base_model(recipe: Recipe, best: Path) -> tuple[Any, Any]:
    """The weights before training: the checkpoint that was tuned, or the untrained tiny model of the same seed.

    What a tiny model looks like, and its tokenizer, are read from the run's ``best`` checkpoint.

    Raises:
        CheckpointError: The checkpoint that was tuned is no longer there.
    """
    if recipe.model.name != TINY:
        return load_model(recipe.model.name, recipe.model)
    config = AutoConfig.from_pretrained(best)
    config._attn_implementation = recipe.model.attention
    model = tiny_model(config, named_seed(recipe.seed, "model"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device, _dtype(recipe)), AutoProcessor.from_pretrained(best)


def _dtype(recipe: Recipe) -> torch.dtype:
    return torch.bfloat16 if recipe.model.dtype == "bfloat16" else torch.float32


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
