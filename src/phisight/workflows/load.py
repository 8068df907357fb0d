"""A name to a model and its processor: ``tiny``, a folder, a hub name, or a run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from phisight.core.errors import CheckpointError, RunError
from phisight.core.recipe import read_config
from phisight.core.run_folder import BEST, CONFIG
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
    """Model and processor of a folder or a hub name, on the GPU if there is one.

    A folder that holds adapters alone is loaded onto the base that its ``adapter_config.json`` names, and merged.
    """
    if _is_adapter(Path(name)):
        return _load_adapter(Path(name), settings)
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


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def _load_adapter(folder: Path, settings: ModelSettings) -> tuple[Any, Any]:
    """Base with the adapters of a folder merged; the processor is the folder's own where it has one."""
    try:
        named = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / ADAPTER} cannot be read ({error}); copy the adapters again") from error
    repair = f"write the folder or hub name of the base into base_model_name_or_path of {folder / ADAPTER}"
    if not named:
        raise CheckpointError(f"{folder} holds adapters alone and does not say onto which model they go; {repair}")
    beside = folder / named
    try:
        base, processor = load_model(beside if beside.is_dir() else named, settings)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} holds adapters alone, and their base is not at hand: {error}; {repair}"
        ) from error
    if (folder / "tokenizer_config.json").is_file() and (folder / "preprocessor_config.json").is_file():
        processor = AutoProcessor.from_pretrained(folder)
        processor.image_processor.num_crops = settings.num_crops or processor.image_processor.num_crops
    return with_adapters(base, folder), processor


def with_adapters(base: Any, folder: Path) -> Any:
    """The model with the adapters of a folder merged, and the number head that lies beside them.

    Raises:
        CheckpointError: Adapters that do not fit the model, or are not there.
    """
    from peft import PeftModel

    try:
        merged: Any = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the adapters in {folder} do not go onto the model ({' '.join(str(error).split())[:160]}); name the base "
            "they were trained on, or copy them again"
        ) from error
    attach_head(merged, load_number_head(folder))
    return merged


def _placed(model: Any, change: Change | None) -> Any:
    return (change(model) if change else model).to("cuda" if torch.cuda.is_available() else "cpu")


def is_run(folder: Path) -> bool:
    """Whether a name is meant as a run folder: it has a recipe, or it is a folder that is no model either."""
    is_model = (folder / "config.json").is_file() or _is_adapter(folder)
    return (folder / CONFIG).is_file() or (folder.is_dir() and not is_model)


def read_run(run: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The resolved recipe of a run folder, with ``key=value`` overrides; RunError where the folder is no run."""
    if not (run / CONFIG).is_file():
        raise RunError(f"{run} is no run folder: it has no {CONFIG}; name the folder that `phisight train` wrote")
    return read_config(run / CONFIG, overrides)


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
    model = base if base is not None else load_model(recipe.model.name, recipe.model)[0]
    return with_adapters(model, best), AutoProcessor.from_pretrained(best), recipe
