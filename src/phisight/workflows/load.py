"""What a recipe names -> model and processor, rows, run. A model: ``tiny``, ``tiny-base``, a folder, a hub name, a run.

new_model(...)      what training starts from            base_model(...)   what a finished run started from
load_model(...)     a folder or hub name, adapters too   load_run(...)     the best checkpoint of a run folder
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils import cached_file

from phisight.core.errors import CheckpointError, DataError, PhisightError, RunError
from phisight.core.recipe import changed_task
from phisight.core.run_folder import BEST, CONFIG
from phisight.core.seeding import named_seed
from phisight.core.settings import ModelSettings, Recipe
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.image_groups import Products, join_images
from phisight.export.merge import ADAPTER_CONFIG, Adapters, merge_into
from phisight.export.model_folder import (
    COMMIT,
    HubAnswer,
    hub_answer,
    hub_options,
    read_config,
    read_processor,
    require_reachable,
)
from phisight.export.subject import TINY as TINY
from phisight.export.subject import Subject, base_is_missing, base_of_run, subject_of
from phisight.export.subject import is_run as is_run
from phisight.export.subject import read_run as read_run
from phisight.export.subject import read_trained_run as read_trained_run
from phisight.export.subject import task_of_run as task_of_run
from phisight.export.task_file import TaskFile
from phisight.model.attention import require_backend
from phisight.model.checkpoint import HUB_TIMEOUT_S, within
from phisight.model.configuration import CONFIG_FILE, check_model_config
from phisight.model.number_head import attach_head, load_number_head
from phisight.model.tiny import TINY_BASE, tiny_config, tiny_model, tiny_processor
from phisight.train.acceleration.bfloat16 import slow_bfloat16
from phisight.train.acceleration.patch import fuse_for_prediction

_LOG = logging.getLogger(__name__)

TAKE_FLOAT32 = "set model.dtype (of predict and serve: --dtype) to float32, which needs twice the memory"

Transform = Callable[[Any], Any]
"""Model to model, on the CPU, before it goes to the device."""


def new_model(
    settings: ModelSettings, texts: Iterable[str], seed: int, transform: Transform | None = None
) -> tuple[Any, Any]:
    """Model and processor to train; ``texts`` are what a tiny model's tokenizer is trained on."""
    require_backend(settings.attention)
    if settings.name != TINY:
        return load_model(settings.name, settings, transform)
    processor = tiny_processor(texts, num_crops=settings.num_crops or 1)
    config = tiny_config(processor.tokenizer)
    config._attn_implementation = settings.attention
    model = tiny_model(config, named_seed(seed, "model")).to(_tiny_dtype(settings))
    return _to_device(model, transform), processor


def base_model(recipe: Recipe, best: Path) -> tuple[Any, Any]:
    """The weights before fine-tuning: the checkpoint that was tuned, or the untrained tiny model of the same seed.

    The configuration and tokenizer of a tiny model are those of the run's ``best`` checkpoint.

    Raises:
        CheckpointError: The checkpoint that was tuned is no longer there.
    """
    if recipe.model.name != TINY:
        try:
            return load_model(base_of_run(best.parent, recipe), recipe.model)
        except RunError as error:
            raise CheckpointError(str(error)) from error
    config = AutoConfig.from_pretrained(best)
    config._attn_implementation = recipe.model.attention
    model = tiny_model(config, named_seed(recipe.seed, "model")).to(_tiny_dtype(recipe.model))
    return _to_device(model), read_processor(best)


def base_model_label(recipe: Recipe) -> str:
    """What the base model of a run is, for people."""
    if recipe.model.name == TINY:
        return f"the untrained tiny model of seed {recipe.seed}"
    return f"{recipe.model.name} without {'the adapters' if recipe.train.method != 'full' else 'training'}"


def load_model(name: str | Path, settings: ModelSettings, transform: Transform | None = None) -> tuple[Any, Any]:
    """Model and processor of a folder, a hub name or a run (its best checkpoint), on the GPU if there is one.

    Adapters (a folder that holds them alone, or a run's) are merged into the base that they were trained on.
    """
    subject = subject_of(name, settings.revision)
    if subject.adapters is None:
        return _load_whole(subject, settings, transform)
    try:
        model, processor = _load_whole(subject, settings, None)
    except CheckpointError as error:
        raise base_is_missing(subject.adapters, error) from error
    for folder in subject.layers:
        model = with_adapters(model, folder)
    if subject.processor != subject.weights:
        processor = read_processor(subject.processor)
        processor.image_processor.num_crops = settings.num_crops or processor.image_processor.num_crops
    return _to_device(model, transform), processor


def _load_whole(subject: Subject, settings: ModelSettings, transform: Transform | None) -> tuple[Any, Any]:
    """Weights of a subject without its adapters, and the processor beside them."""
    name, hub = subject.weights, subject.hub
    with loading(name):
        read_config(name, **hub)
        processor = read_processor(name, **hub)
        model = AutoModelForImageTextToText.from_pretrained(
            name, dtype=settings.dtype, attn_implementation=settings.attention, **hub
        )
    if settings.num_crops is not None:
        processor.image_processor.num_crops = settings.num_crops
    if model.dtype == torch.bfloat16 and (warning := slow_bfloat16(f"the weights of {name} are", TAKE_FLOAT32)):
        _LOG.warning("%s", warning)
    return _to_device(model, transform), processor


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Turn whatever the library raises on a missing or damaged model into a CheckpointError of one line."""
    check_model_config(Path(name))
    try:
        yield
    except (PhisightError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the library raises its own, JSON's, the tokenizer's and the file system's
        raise CheckpointError(
            f"no model at {str(name)!r} ({' '.join(str(error).split())[:160]}); name a folder with config.json, or a "
            "hub name that can be reached"
        ) from error


def resolved_revision(settings: ModelSettings) -> str | None:
    """The commit that a hub name and its ``revision`` stand for now; None for folders, runs and models of the package.

    CheckpointError where the hub cannot be reached and the model is not in its cache.
    """
    if settings.name in (TINY, TINY_BASE) or Path(settings.name).exists():
        return settings.revision
    require_reachable(settings.name, settings.revision)
    answer, options = hub_answer(settings.name, settings.revision), hub_options(settings.name, settings.revision)
    alone = isinstance(answer, HubAnswer) and ADAPTER_CONFIG in answer.files and CONFIG_FILE not in answer.files
    file = ADAPTER_CONFIG if alone else CONFIG_FILE
    try:
        path = within(HUB_TIMEOUT_S, lambda: cached_file(settings.name, file, **options))
    except OSError as error:
        raise CheckpointError(
            f"no model at {settings.name!r}, revision {settings.revision!r} ({' '.join(str(error).split())[:160]}); "
            "name a folder with config.json, or a hub name that can be reached"
        ) from error
    commit = Path(str(path)).parent.name  # the cache has a folder for each commit
    return commit if COMMIT.fullmatch(commit) else settings.revision


def with_adapters(base: Any, folder: Path) -> Any:
    """The model with the adapters of a folder merged, and the number head beside them.

    Raises:
        CheckpointError: Adapters that do not fit the model, or are not there.
    """
    try:
        merge_into(base, Adapters.read(folder))
    except CheckpointError as error:
        raise CheckpointError(f"the adapters in {folder} do not fit the model: {error}") from error
    attach_head(base, load_number_head(folder))
    return base


def load_run(run: Path, base: Any = None) -> tuple[Any, Any, Recipe]:
    """Model (adapters merged), processor and recipe of a run's best checkpoint.

    ``base`` is the model that adapters were trained on, where it is loaded already; the adapters are merged into it.
    """
    recipe = read_trained_run(run)
    best = run / BEST
    if not (best / ADAPTER_CONFIG).is_file():
        return (*load_model(best, recipe.model), recipe)
    model = base if base is not None else load_model(base_of_run(run, recipe), recipe.model)[0]
    return with_adapters(model, best), read_processor(best), recipe


def to_predict(model: Any) -> None:
    """Attention and layers as predictions run them: eager attention is for training small models; fused on a CPU."""
    if model.config._attn_implementation == "eager":
        model.set_attn_implementation("sdpa")
    fuse_for_prediction(model.eval())


def with_task(recipe: Recipe, own: Task) -> Recipe:
    """The recipe with the data set's ``own`` task changed where ``--set task.KEY=...`` alone says so."""
    if not recipe.task_changes:
        return recipe
    return recipe.model_copy(update={"task": changed_task(own, recipe.task_changes)})


def with_abstaining(recipe: Recipe, own: Task) -> Recipe:
    """The recipe with a task that may say "not shown", where foreign images are trained on, or were before.

    ``own`` is the task of the data set. A run that starts from one with such a task keeps it.
    """
    task, word = recipe.task or own, recipe.train.abstain.word
    if not recipe.train.abstain.share:
        before = _task_of_start(recipe)
        if before is None or not before.abstains or before.names != task.names:
            return recipe
        word = next(field.absent for field in before.fields.values() if field.abstain)
    return recipe.model_copy(update={"task": task.abstaining(word)})


def _task_of_start(recipe: Recipe) -> Task | None:
    """The task of the run or export that training starts from; None where nothing says one."""
    start = Path(recipe.model.name)
    if recipe.model.name == TINY or not start.is_dir():
        return None
    for run in (start, start.parent):
        if (run / CONFIG).is_file():
            return task_of_run(run, read_run(run))
    file = TaskFile.read(start)
    return file.task if file else None


def split_rows(folder: DatasetFolder, recipe: Recipe, split: str) -> Products:
    """Rows of a split, one an image or (``data.images``) one a product; DataError when it has none."""
    if split not in folder.split_names:
        raise DataError(f"{folder.path} has no row in the split {split!r}; splits: {folder.card.splits}")
    task = recipe.task or folder.task
    return join_images(folder.rows(split), folder.card.key, task.names, recipe.data.images)


def _tiny_dtype(settings: ModelSettings) -> torch.dtype:
    return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32


def _to_device(model: Any, transform: Transform | None = None) -> Any:
    return (transform(model) if transform else model).to("cuda" if torch.cuda.is_available() else "cpu")
