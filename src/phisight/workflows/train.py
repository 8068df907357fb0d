"""Recipe -> run folder.

run folder -> rows -> model -> trainable parameters -> dataset -> image check -> precompute -> loop -> best/
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from phisight.core import run_folder
from phisight.core.dataset_folder import CARD
from phisight.core.environment import is_first
from phisight.core.errors import SettingsError
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe, TrainSettings
from phisight.core.task import Task
from phisight.data.dataset.answer_limits import AnswerLimits
from phisight.data.dataset.folder import DatasetFolder
from phisight.export.describe import describe_run
from phisight.export.subject import origins_of
from phisight.track import open_tracker
from phisight.train.acceleration.bfloat16 import chosen_type, slow_bfloat16
from phisight.train.callbacks import TrainingCallback
from phisight.train.checkpoint.best_model import save_best
from phisight.train.distributed import process_group
from phisight.train.distributed.fsdp import full_state_dict
from phisight.train.examples import abstaining
from phisight.train.examples.augment import Augment
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet, example_set
from phisight.train.examples.number_targets import number_targets
from phisight.train.examples.pair_set import PairSet
from phisight.train.image_check import ImageCheck, check_images
from phisight.train.loop import fit
from phisight.train.losses.preference import preference_loss
from phisight.train.losses.supervised import SUPERVISED
from phisight.train.precompute import CacheReport, fill_caches
from phisight.train.trainable.methods import apply_method
from phisight.train.trainable.module_groups import PartCount, count_parts
from phisight.train.trainable.quantize import quantize_decoder
from phisight.workflows.load import TINY, new_model, split_rows, with_abstaining, with_task
from phisight.workflows.open_run import (
    OpenedRun,
    begin_run,
    from_weights,
    locked,
    on_this_node,
    open_run,
    starting_point,
)
from phisight.workflows.preference_training import (
    check_objective,
    fill_reference,
    freeze_number_head,
    pair_set,
)
from phisight.workflows.tracking import FigureSink, tracker_options
from phisight.workflows.validate import ValidationAnswers, judged_by

CHECKED_EXAMPLES = 8
"""Examples of the image check."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Prepared:
    """What is known before the first step."""

    parts: list[PartCount]
    check: ImageCheck
    train_rows: int
    validation_rows: int
    left_out: int
    caches: list[CacheReport]
    """What steps read from disk instead of computing it."""


def train(
    recipe: Recipe,
    *,
    announce: Callable[[Prepared], None] = lambda _: None,
    progress: TrainingCallback | None = None,
    precomputing: Callable[[int, int], None] = lambda _done, _total: None,
    notify: Callable[[str], None] = lambda _: None,
    overwrite: bool = False,
    resume: bool = False,
    more_steps: int | None = None,
) -> Path:
    """Train by a recipe; returns the run folder.

    With ``resume`` the run in the folder continues from its newest good checkpoint, exactly as if it had never stopped.
    Under torchrun every process calls this; the first one writes, prints and precomputes features for all.

    Args:
        recipe: The resolved settings.
        announce: Called before the first step with what trains and what the image check found.
        progress: Gets steps and figures.
        precomputing: Called with images whose features are computed, and all of them.
        notify: Called with lines that a person should read.
        overwrite: Whether a run in the folder is replaced.
        resume: Whether a run in the folder continues; a folder without a run is begun.
        more_steps: Steps by which a run in the folder becomes longer than planned, with ``resume``.
    """
    callbacks = _Callbacks(announce, progress, precomputing, notify)
    check_objective(recipe)
    abstaining.check_abstain(recipe)
    with process_group.joined(), contextlib.ExitStack() as held:
        # Rank zero holds the folder for all; a second training on it ends at once.
        process_group.on_rank_zero(lambda: held.enter_context(locked(recipe.out)))
        if recipe.out.resolve() in (start := Path(recipe.model.name).resolve(), start.parent):
            raise SettingsError(f"{recipe.out} cannot train from itself; choose another folder with --set out=DIR")
        folder = DatasetFolder.open(recipe.data.path)
        recipe = with_abstaining(with_task(recipe, folder.task), folder.task)
        opened = process_group.on_rank_zero(
            lambda: open_run(recipe, overwrite=overwrite, resume=resume, notify=notify, more_steps=more_steps)
        )
        opened = on_this_node(opened, recipe)
        if recipe.train.bf16 == "auto" and not opened.continues:
            notify(f"train.bf16 auto: {chosen_type()}.")
        if opened.recipe.train.bf16 and (warning := slow_bfloat16("the steps compute", "set train.bf16 to auto")):
            notify(f"{warning}.")
        return _train(opened, folder, callbacks)


class _Callbacks(NamedTuple):
    announce: Callable[[Prepared], None]
    progress: TrainingCallback | None
    precomputing: Callable[[int, int], None]
    notify: Callable[[str], None]


def _train(opened: OpenedRun, folder: DatasetFolder, callbacks: _Callbacks) -> Path:
    recipe, run_dir = opened.recipe, opened.recipe.out
    task = recipe.task or folder.task
    rows, validation_rows = _rows(folder, recipe, callbacks.notify)
    answers = judged_by(recipe, task, folder.split_names)
    images = abstaining.images_of_training(recipe, folder, task, rows, callbacks.notify, continues=opened.continues)
    rows += abstaining.examples_of(images.foreign, recipe, task, len(rows), callbacks.notify)

    start = process_group.on_rank_zero(lambda: starting_point(opened, callbacks.notify))
    model, processor = starting_model(from_weights(recipe, start), task, rows)
    model = _with_trainable_parameters(model, recipe)
    datasets = _datasets(recipe, images, task, model, processor, rows, validation_rows, callbacks.notify)
    check = _check_images(model, processor, datasets.train)
    caches = fill_caches(recipe, model, datasets.present, callbacks.precomputing, images.require_unchanged)
    loss = SUPERVISED
    if isinstance(datasets.train, PairSet):
        loss = preference_loss(recipe.preference)
        caches.append(fill_reference(recipe, model, datasets.train, processor, callbacks.precomputing))

    limits = AnswerLimits.of_training(task, [folder.path])
    process_group.on_rank_zero(lambda: begin_run(opened, limits, callbacks.notify))
    process_group.require_shared(run_dir / run_folder.CONFIG)
    tracker = open_tracker(recipe.track.to, tracker_options(recipe.track)) if is_first() else None
    if tracker:
        prepared = Prepared(
            count_parts(model), check, len(datasets.train), len(validation_rows), datasets.left_out, caches
        )
        callbacks.announce(prepared)
        shutil.copyfile(folder.path / CARD, run_dir / CARD)
        tracker.start(run_dir, recipe.model_dump(mode="json"))
    if recipe.train.answer_rows:
        answers = replace(answers, ask=ValidationAnswers(recipe, folder.path, task, processor, tracker))

    figures_to = FigureSink(tracker, callbacks.progress)
    figures = fit(
        model,
        processor,
        datasets.train,
        datasets.validation,
        recipe,
        run_dir,
        figures_to,
        answers,
        resume=opened.checkpoint,
        loss=loss,
        notify=callbacks.notify,
    )
    weights = full_state_dict(model) if recipe.train.fsdp else None
    if tracker:
        # Adapters need the weights they were trained on; a tiny model's are nowhere but here.
        save_best(model, processor, run_dir / run_folder.BEST, whole=recipe.model.name == TINY, weights=weights)
        origins_of(recipe, run_dir, start).write(run_dir)
        describe_run(run_dir)
        tracker.finish(figures, {"dataset": folder.path, "best": run_dir / run_folder.BEST})
    return run_dir


def _rows(folder: DatasetFolder, recipe: Recipe, notify: Callable[[str], None]) -> tuple[Rows, Rows]:
    """Rows of the training split and of the validation split, where there is one."""
    rows, left_over = split_rows(folder, recipe, "train")
    if left_over:
        notify(f"{left_over} images are left out: their products have more than {recipe.data.images}.")
    validates = "validation" in folder.split_names
    return rows[: recipe.data.train_rows], split_rows(folder, recipe, "validation").rows if validates else []


def starting_model(recipe: Recipe, task: Task, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """Model and processor that training starts from; of a tiny one the tokenizer is trained on the training rows."""
    texts = [task.prompt, *(task.render(row) for row in rows)]
    quantize = quantize_decoder if recipe.train.method == "qlora" else None
    return new_model(recipe.model, texts, recipe.seed, quantize)


def _with_trainable_parameters(model: Any, recipe: Recipe) -> Any:
    """The model with what the method trains; adapters are drawn from the run's seed."""
    torch.manual_seed(named_seed(recipe.seed, "adapters"))
    model = apply_method(model, _with_tower(recipe), recipe.lora)
    if recipe.train.objective == "dpo":
        freeze_number_head(model)
    return model


def _with_tower(recipe: Recipe) -> TrainSettings:
    """The training settings; a tiny model's tower starts from nothing and always trains."""
    from_nothing = recipe.model.name == TINY and recipe.train.method == "full" and recipe.train.from_layer == 0
    train_tower = recipe.train.train_tower or from_nothing
    return recipe.train.model_copy(update={"train_tower": train_tower})


class Datasets(NamedTuple):
    """Tokenized examples of both splits."""

    train: ExampleSet | PairSet
    validation: ExampleSet | None
    left_out: int
    """Training rows that are too long."""

    @property
    def present(self) -> list[ExampleSet]:
        """Examples that show images, of those there are."""
        train = self.train.images if isinstance(self.train, PairSet) else self.train
        return [one for one in (train, self.validation) if one]


def _datasets(
    recipe: Recipe,
    images: abstaining.TrainingImages,
    task: Task,
    model: Any,
    processor: Any,
    rows: Rows,
    validation_rows: Rows,
    notify: Callable[[str], None],
) -> Datasets:
    targets = number_targets(recipe.train.numbers, model, processor, task, rows)
    train_set: ExampleSet | PairSet
    if recipe.train.objective == "dpo":
        train_set, left_out = pair_set(recipe, images, rows, processor, task, notify)
    else:
        augment = Augment(recipe.data.augment, recipe.seed) if recipe.data.augment else None
        train_set, left_out = example_set(recipe, images.load, rows, processor, task, augment)
    validation_set = example_set(recipe, images.load, validation_rows, processor, task)[0] if validation_rows else None
    datasets = Datasets(train_set, validation_set, left_out)
    for dataset in datasets.present:
        dataset.targets = targets
    return datasets


def _check_images(model: Any, processor: Any, train_set: ExampleSet | PairSet) -> ImageCheck:
    """ImageCheckError where a different image does not change the loss of the first examples."""
    indices = range(min(CHECKED_EXAMPLES, len(train_set)))
    some = [train_set[i]["sides"][0] if isinstance(train_set, PairSet) else train_set[i] for i in indices]
    return check_images(model, Collator(processor.tokenizer.pad_token_id)(some))
