"""A name to a model and its processor: ``tiny``, a folder, a hub name, or a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from phisight.core.errors import CheckpointError, RunError
from phisight.core.recipe import load_recipe
from phisight.core.rundir import BEST, CONFIG
from phisight.core.seeding import named_seed
from phisight.core.settings import ModelSettings, Recipe
from phisight.model.attention import require_backend
from phisight.model.number_head import attach_head, load_number_head
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor

TINY = "tiny"
ADAPTER = "adapter_config.json"


Change = Callable[[Any], Any]
"""Model to model, on the CPU, before it moves to the device."""


def new_model(
    settings: ModelSettings, texts: Iterable[str], seed: int, change: Change | None = None
) -> tuple[Any, Any]:
    """Model and processor to train; ``texts`` are what a tiny model's tokenizer is trained on."""
    require_backend(settings.attention)
    if settings.name != TINY:
        return load_model(settings.name, settings, change)
    processor = tiny_processor(texts, num_crops=settings.num_crops or 1)
    config = tiny_config(processor.tokenizer)
    config._attn_implementation = settings.attention
    model = tiny_model(config, named_seed(seed, "model"))
    model = model.to(torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32)
    return _placed(model, change), processor


def load_model(name: str | Path, settings: ModelSettings, change: Change | None = None) -> tuple[Any, Any]:
    """Model and processor of a folder or a hub name, on the GPU if there is one."""
    try:
        processor = AutoProcessor.from_pretrained(name)
        model = AutoModelForImageTextToText.from_pretrained(
            name, dtype=settings.dtype, attn_implementation=settings.attention
        )
    except OSError as error:
        raise CheckpointError(
            f"no model at {str(name)!r} ({' '.join(str(error).split())[:160]}); name a folder with config.json, or a "
            "hub name that can be reached"
        ) from error
    if settings.num_crops is not None:
        processor.image_processor.num_crops = settings.num_crops
    return _placed(model, change), processor


def _placed(model: Any, change: Change | None) -> Any:
    return (change(model) if change else model).to("cuda" if torch.cuda.is_available() else "cpu")


def is_run(folder: Path) -> bool:
    """Whether a name is meant as a run folder: it has a recipe, or it is a folder that is no model either."""
    return (folder / CONFIG).is_file() or (folder.is_dir() and not (folder / "config.json").is_file())


def read_run(run: Path) -> Recipe:
    """The resolved recipe of a run folder."""
    if not (run / CONFIG).is_file():
        raise RunError(f"{run} is no run folder: it has no {CONFIG}; name the folder that `phisight train` wrote")
    return load_recipe(run / CONFIG)


def read_checkpoint(run: Path) -> Recipe:
    """The resolved recipe of a run that has a best checkpoint; RunError where there is none."""
    recipe = read_run(run)
    best = run / BEST
    if not (best / "config.json").is_file() and not (best / ADAPTER).is_file():
        raise RunError(
            f"{run} has no checkpoint: {best} is missing or empty; train it, or wait until training has ended"
        )
    return recipe


def load_run(run: Path, base: Any = None) -> tuple[Any, Any, Recipe]:
    """Model (adapters merged), processor and recipe of a run's best checkpoint.

    ``base`` is the model that adapters were trained on, where it is loaded already; it becomes the tuned one.
    """
    recipe = read_checkpoint(run)
    best = run / BEST
    if not (best / ADAPTER).is_file():
        return (*load_model(best, recipe.model), recipe)
    from peft import PeftModel

    model = base if base is not None else load_model(recipe.model.name, recipe.model)[0]
    merged: Any = PeftModel.from_pretrained(model, str(best)).merge_and_unload()
    attach_head(merged, load_number_head(best))
    return merged, AutoProcessor.from_pretrained(best), recipe
