"""Recipe to plan: tokens, steps and memory of a run; no image is opened and no weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.model.tiny import tiny_config, tiny_processor
from phisight.train.arguments import planned_steps
from phisight.train.examples.tokenize import example_lengths, image_token_counts, prompt_text
from phisight.train.memory_plan import (
    Batch,
    ImageTokens,
    Memory,
    expected_padding,
    image_token_table,
    largest_batch,
    memory_of,
)
from phisight.train.trainable.methods import apply_method
from phisight.workflows.load import TINY, loading, split_rows

METHODS = (("full", True), ("full", False), ("lora", False), ("qlora", False), ("projector", False))
"""Method, and whether the tower trains; the recipe's own is added."""


@dataclass(frozen=True)
class Plan:
    """What a run will take."""

    rows: int
    steps: int
    steps_per_epoch: int
    padding: float
    batch: Batch
    num_crops: int
    images: list[ImageTokens]
    memory: dict[str, Memory]
    """By method; ``+ tower`` where the tower trains."""
    chosen: str
    """The recipe's own method."""


def plan(recipe: Recipe) -> Plan:
    """Plan a run on one device; see ``phisight.train.memory_plan`` for what memory counts."""
    folder = DatasetFolder.open(recipe.data.path)
    task = recipe.task or folder.task
    rows = split_rows(folder, recipe, "train").rows[: recipe.data.train_rows]
    config, processor = _shapes(recipe, [task.prompt, *(task.render(row) for row in rows)])
    num_crops, crop_size = recipe.model.num_crops or processor.image_processor.num_crops, config.crop_size
    lengths = example_lengths(rows, processor, task, num_crops)
    image_tokens = [image_token_counts(row, num_crops, crop_size) for row in rows]
    prompts = {n: len(processor.encode(prompt_text(processor, task, n), [0] * n)) for n in set(map(len, image_tokens))}
    trained = [length - sum(each) - prompts[len(each)] for length, each in zip(lengths, image_tokens, strict=True)]
    batch = largest_batch(rows, lengths, trained, recipe, processor)
    per_epoch = planned_steps(len(rows), recipe.train.model_copy(update={"steps": None, "epochs": 1.0}))
    chosen = recipe.train.method, recipe.train.train_tower
    methods = dict.fromkeys([*METHODS, chosen])
    memory = {_name(*method): _memory(recipe, config, batch, *method) for method in methods}
    return Plan(
        rows=len(rows),
        steps=planned_steps(len(rows), recipe.train),
        steps_per_epoch=per_epoch,
        padding=expected_padding(lengths, recipe),
        batch=batch,
        num_crops=num_crops,
        images=image_token_table(rows, [1, 4, 16, num_crops], crop_size),
        memory=memory,
        chosen=_name(*chosen),
    )


def _name(method: str, tower: bool) -> str:
    return f"{method} + tower" if tower else method


def _memory(recipe: Recipe, config: Any, batch: Batch, method: str, tower: bool) -> Memory:
    settings = recipe.train.model_copy(update={"method": method, "train_tower": tower, **_from_layer(method, tower)})
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=_dtype(recipe, config))
        model = apply_method(model, settings, recipe.lora)
    return memory_of(model, config, batch, recipe.model_copy(update={"train": settings}))


def _from_layer(method: str, tower: bool) -> dict[str, int]:
    """The recipe's first layer stays, where the method can have one."""
    return {} if method != "projector" and not tower else {"from_layer": 0}


def _dtype(recipe: Recipe, config: Any) -> torch.dtype:
    if recipe.model.dtype == "auto":
        return torch.float32 if recipe.model.name == TINY else config.dtype or torch.float32
    return torch.bfloat16 if recipe.model.dtype == "bfloat16" else torch.float32


def _shapes(recipe: Recipe, texts: list[str]) -> tuple[Any, Any]:
    """Configuration and processor, without weights."""
    name = recipe.model.name
    if name == TINY:
        processor: Any = tiny_processor(texts, num_crops=recipe.model.num_crops or 1)
        config: Any = tiny_config(processor.tokenizer)
    else:
        with loading(name):
            config, processor = AutoConfig.from_pretrained(name), AutoProcessor.from_pretrained(name)
    config._attn_implementation = recipe.model.attention
    return config, processor
