"""Recipe to run folder.

data set -> model -> what moves -> examples -> image check -> what rests is stored -> fit -> best/
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from phisight.core import run_folder
from phisight.core.dataset_folder import CARD
from phisight.core.errors import SettingsError
from phisight.core.rank import is_first
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import load_image
from phisight.model.number_head import save_head, split_off
from phisight.track import Tracker, open_tracker
from phisight.train.callbacks import Watcher
from phisight.train.checkpoint.manifest import writing
from phisight.train.distributed import process_group
from phisight.train.distributed.fsdp import in_one_piece, whole_weights
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet, split_by_length
from phisight.train.examples.number_targets import number_targets
from phisight.train.image_check import ImageCheck, check_images
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method
from phisight.train.trainable.module_groups import PartCount, count_parts
from phisight.train.trainable.quantize import merged_in_full, quantise_decoder
from phisight.workflows.base_model import starting_model
from phisight.workflows.load import TINY
from phisight.workflows.open_run import open_run
from phisight.workflows.precompute import store_what_rests
from phisight.workflows.product_rows import product_rows
from phisight.workflows.tracking import tracker_options
from phisight.workflows.validate import ValidationAnswers, judged_by

CHECKED_EXAMPLES = 8
"""Examples of the image check."""


@dataclass(frozen=True)
class Prepared:
    """What is known before the first step."""

    parts: list[PartCount]
    check: ImageCheck
    train_rows: int
    validation_rows: int
    left_out: int
    features: str
    """What became of the frozen tower's features, or of the hidden states below the trained layers."""


def train(
    recipe: Recipe,
    *,
    announce: Callable[[Prepared], None] = lambda _: None,
    progress: Watcher | None = None,
    filling: Callable[[int, int], None] = lambda _done, _every: None,
    say: Callable[[str], None] = lambda _: None,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Train as the recipe says; returns the run folder.

    With ``resume`` the run in the folder goes on from its newest good checkpoint, exactly as if it had never stopped.
    ``filling`` hears of pictures whose features are computed, ``say`` of what a reader of the screen should know. Under
    torchrun every process calls this; the first one writes, prints and stores features for all.
    """
    with process_group.joined():
        return _train(recipe, _Listeners(announce, progress, filling, say), overwrite=overwrite, resume=resume)


@dataclass(frozen=True)
class _Listeners:
    """Who hears of what, in the first process."""

    announce: Callable[[Prepared], None]
    progress: Watcher | None
    filling: Callable[[int, int], None]
    say: Callable[[str], None]


def _train(recipe: Recipe, listeners: _Listeners, *, overwrite: bool, resume: bool) -> Path:
    run_dir = recipe.out
    start = process_group.on_first(lambda: open_run(recipe, overwrite=overwrite, resume=resume, say=listeners.say))
    folder = DatasetFolder.open(recipe.data.path)
    task = recipe.task or folder.task
    rows, left_over = product_rows(folder, recipe, "train")
    rows = rows[: recipe.data.train_rows]
    if left_over:
        listeners.say(f"{left_over} pictures are left out: their products have more than {recipe.data.images}.")
    answers = judged_by(recipe, task, folder.split_names)

    quantise = quantise_decoder if recipe.train.method == "qlora" else None
    model, processor = starting_model(recipe, task, rows, quantise)
    torch.manual_seed(named_seed(recipe.seed, "adapters"))
    model = apply_method(model, _with_tower(recipe), recipe.lora)
    targets = number_targets(recipe.train.numbers, model, processor, task, rows)

    train_set, left_out = _examples(recipe, folder, rows, processor, task)
    validates = "validation" in folder.split_names
    validation_rows = product_rows(folder, recipe, "validation").rows if validates else []
    validation_set = _examples(recipe, folder, validation_rows, processor, task)[0] if validation_rows else None
    train_set.targets = targets
    if validation_set:
        validation_set.targets = targets
    some = [train_set[index] for index in range(min(CHECKED_EXAMPLES, len(train_set)))]
    check = check_images(model, Collator(processor.tokenizer.pad_token_id)(some))
    features = store_what_rests(recipe, model, [one for one in (train_set, validation_set) if one], listeners.filling)
    tracker = open_tracker(recipe.track.to, tracker_options(recipe.track)) if is_first() else None
    if tracker:
        listeners.announce(
            Prepared(count_parts(model), check, len(train_set), len(validation_rows), left_out, features)
        )
        shutil.copyfile(folder.path / CARD, run_dir / CARD)
        tracker.start(run_dir, recipe.model_dump(mode="json"))
    if recipe.train.answer_rows:
        answers = replace(answers, ask=ValidationAnswers(recipe, folder.path, task, processor, tracker))
    watch = _Watch(tracker, listeners.progress)
    outcome = fit(model, processor, train_set, validation_set, recipe, run_dir, watch, answers, resume=start)
    weights = whole_weights(model) if recipe.train.fsdp else None
    if tracker:
        # Adapters need the weights they were trained on; a tiny model's are nowhere but here.
        save_best(model, processor, run_dir / run_folder.BEST, whole=recipe.model.name == TINY, weights=weights)
        tracker.finish(outcome, {"dataset": folder.path, "best": run_dir / run_folder.BEST})
    return run_dir


def save_best(model: Any, processor: Any, folder: Path, *, whole: bool, weights: dict[str, Any] | None = None) -> None:
    """Model and processor, ready to be loaded; of a model with adapters only these, unless ``whole``.

    The folder is there whole or not at all. ``weights`` are those of a model that holds only shards.
    """
    others, head = split_off(weights or {})
    merged, state = model, {} if weights is None else {"state_dict": weights}
    if whole and hasattr(model, "merge_and_unload"):
        merged, state = _merged(model if weights is None else in_one_piece(model, others)), {}
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with writing("the best model", folder.parent, "its checkpoint stands"):
        merged.save_pretrained(partial, **state)
        processor.save_pretrained(partial)
        save_head(model, partial, head)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _merged(model: Any) -> Any:
    four_bits = getattr(model.get_base_model(), "is_loaded_in_4bit", False)
    return merged_in_full(model) if four_bits else model.merge_and_unload()


def _with_tower(recipe: Recipe) -> Any:
    """The training settings; a tiny model's tower starts from nothing and always trains."""
    from_nothing = recipe.model.name == TINY and recipe.train.method == "full" and recipe.train.from_layer == 0
    train_tower = recipe.train.train_tower or from_nothing
    return recipe.train.model_copy(update={"train_tower": train_tower})


def _examples(
    recipe: Recipe, folder: DatasetFolder, rows: list[dict[str, Any]], processor: Any, task: Task
) -> tuple[ExampleSet, int]:
    def load(row: Mapping[str, Any]) -> Any:
        return load_image(folder.image_path(row))

    limit = recipe.data.max_length or processor.tokenizer.model_max_length
    num_crops = recipe.model.num_crops or processor.image_processor.num_crops
    kept, lengths, too_long = split_by_length(rows, processor, task, num_crops, limit)
    if too_long and recipe.data.too_long == "error":
        raise SettingsError(
            f"{len(too_long)} of {len(rows)} examples are longer than {limit} tokens (the longest {max(too_long)}); "
            "raise data.max_length, lower model.num_crops, or set data.too_long to leave_out"
        )
    examples = ExampleSet(
        kept,
        load,
        processor,
        task,
        num_crops=num_crops,
        keep_bytes=int(recipe.data.keep_pixels_gb * 1e9) if recipe.data.workers == 0 else 0,
        lengths=lengths,
    )
    return examples, len(too_long)


class _Watch:
    """Figures to the trackers, progress to whoever shows it."""

    def __init__(self, tracker: Tracker | None, progress: Watcher | None) -> None:
        self.tracker = tracker
        self.progress = progress

    def begin(self, steps: int) -> None:
        if self.progress:
            self.progress.begin(steps)

    def step(self, step: int) -> None:
        if self.progress:
            self.progress.step(step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.tracker:
            self.tracker.log(step, {_grouped(name): value for name, value in metrics.items()})
        if self.progress:
            self.progress.log(step, metrics)


def _grouped(name: str) -> str:
    """``eval_loss`` becomes ``eval/loss`` and ``loss`` ``train/loss``, the way trackers group figures."""
    return f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name.removeprefix('train_')}"
