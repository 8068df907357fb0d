"""Images to answers: ``phisight predict``, and what answers and describes images for the other commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import DatasetError, EvaluationError
from phisight.core.recipe import recipe_from
from phisight.core.settings import EvaluateSettings, Numbers, Recipe
from phisight.core.task import FieldValue, Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import load_image
from phisight.generate import AnswerGrammar, Predictor, Request, number_writer
from phisight.model.number_head import head_of
from phisight.workflows.load import is_run, load_model, load_run, task_of_run

LONGEST_NUMBER = "-999999999.99999999"
"""The longest number of a constrained answer."""
MIN_TEXT_TOKENS = 4
"""Fewest tokens that each free text of a constrained answer must have room for."""
_FEATURE_BATCH = 32


@dataclass(frozen=True)
class Answer:
    """What the model wrote about an image, and the fields read from it."""

    text: str
    values: dict[str, FieldValue] | None
    reason: str | None


def predict(
    run: Path, images: Sequence[Path], *, together: bool = False, data: Path | None = None
) -> Iterator[tuple[Path, Answer]]:
    """Answers about images, in their order; ``together`` they show one product and get one answer.

    ``run`` may also name a model (folder or hub name); its task is then that of the data set folder ``data``.
    """
    model, processor, recipe, task = _model_and_task(run, data)
    predictor = predictor_of(model, processor, recipe.evaluate, recipe.train.numbers, task, [recipe.data.path])
    groups = [images] if together else [[image] for image in images]
    texts = dict(predictor.answers([Request(task.prompt, group) for group in groups]))
    for index, (image, *_) in enumerate(groups):
        parsed = task.parse(texts[index])
        yield image, Answer(texts[index], parsed.values, parsed.reason)


def _model_and_task(run: Path, data: Path | None) -> tuple[Any, Any, Recipe, Task]:
    """Model, processor, recipe and task of a run, or of a model that is no run with the task of a data set folder."""
    if data is None or is_run(run):
        model, processor, recipe = load_run(run)
        return model, processor, recipe, task_of_run(run, recipe)
    recipe = recipe_from({"model": {"name": str(run)}, "data": {"path": str(data)}})
    model, processor = load_model(str(run), recipe.model)
    return model, processor, with_numbers_of(model, recipe), DatasetFolder.open(data).task


def with_numbers_of(model: Any, recipe: Recipe) -> Recipe:
    """The recipe with ``train.numbers`` as the model can answer them: by its number head, else as text."""
    train = recipe.train.model_copy(update={"numbers": "head" if head_of(model) else "text"})
    return recipe.model_copy(update={"train": train})


def predictor_of(
    model: Any, processor: Any, settings: EvaluateSettings, numbers: Numbers, task: Task, data: Sequence[Path]
) -> Predictor:
    """Model, processor and settings as a ``Predictor``; ``numbers`` is how the model was trained to give its numbers.

    Constrained answers take their categories, the sign and the length of their numbers from the first of ``data`` that
    has a training split.
    """
    grammar = None
    if settings.constrained:
        tokenizer, train = processor.tokenizer, _training_rows(task, data)
        categories, ranges = _categories(task, train), _ranges(task, train)
        room = _text_room(task, tokenizer, categories, settings.max_new_tokens)
        ends = model.generation_config.eos_token_id
        grammar = AnswerGrammar(task, tokenizer, categories, ends, max_text_tokens=room, ranges=ranges)
    return Predictor(
        model,
        processor,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        grammar=grammar,
        numbers=number_writer(numbers, task, processor.tokenizer),
    )


@torch.no_grad()
def tower_features(model: Any, processor: Any, images: Sequence[Path]) -> NDArray[np.float32]:
    """float32[N, 4V]: the vision tower's merged patches of the thumbnail (the whole image in one crop), averaged."""
    embedding = model.model.vision_embed_tokens
    found = []
    for start in range(0, len(images), _FEATURE_BATCH):
        batch = [load_image(path) for path in images[start : start + _FEATURE_BATCH]]
        pixels = processor.image_processor(batch, num_crops=1, return_tensors="pt")
        patches = embedding.tower_features(pixels["pixel_values"][:, 0])
        found.append(patches.float().mean(dim=(1, 2)).cpu().numpy())
    return np.concatenate(found)


def _text_room(task: Task, tokenizer: Any, categories: Mapping[str, Sequence[str]], most: int) -> int:
    """Tokens for each free text of a constrained answer, so that the longest of everything else fits behind it.

    A quarter is added for a model that spells a word in more tokens than the tokenizer would.
    """
    longest = {name: max(values, key=len) for name, values in categories.items()}
    numbers = dict.fromkeys(task.of_kind("number"), LONGEST_NUMBER)
    texts = task.of_kind("text")
    longest_answer = task.answer
    for name, value in {**longest, **numbers, **dict.fromkeys(texts, "")}.items():
        longest_answer = longest_answer.replace("{" + name + "}", value)
    needed = len(tokenizer(longest_answer, add_special_tokens=False).input_ids) * 5 // 4 + 4
    room = (most - needed) // max(1, len(texts))
    if room < MIN_TEXT_TOKENS:
        raise EvaluationError(
            f"evaluate.max_new_tokens = {most} is too few for constrained answers: names, categories and numbers alone "
            f"may take {needed}; set it to {needed + MIN_TEXT_TOKENS * len(texts)} or more"
        )
    return room


def _training_rows(task: Task, data: Sequence[Path]) -> pa.Table | None:
    """The training split of the first of ``data`` that has one with the task's categories and numbers.

    None where there is none and the task has no category, which would need it.
    """
    needed = task.of_kind("category")
    names = [*needed, *task.of_kind("number")]
    tried = []
    for path in dict.fromkeys(data):
        try:
            table = DatasetFolder.open(path).table
        except DatasetError as error:
            tried.append(str(error))
            continue
        train = table.filter(pc.equal(table[SPLIT], "train"))
        if train.num_rows and all(name in train.column_names for name in needed):
            return train.select([name for name in names if name in train.column_names])
        tried.append(f"{path} has no training split with {', '.join(needed)}")
    if not needed:
        return None
    raise EvaluationError(
        f"evaluate.constrained needs the categories of a training split: {'; '.join(tried)}; name a data set that has "
        "one"
    )


def _categories(task: Task, train: pa.Table | None) -> dict[str, list[str]]:
    """Values of each category field in a training split, as answers write them."""
    if train is None:
        return {}
    found = {name: train[name].unique().to_pylist() for name in task.of_kind("category")}
    return {name: sorted({" ".join(str(value).split()) for value in values}) for name, values in found.items()}


def _ranges(task: Task, train: pa.Table | None) -> dict[str, tuple[float, float]]:
    """Least and largest finite value of each number field in a training split."""
    ranges = {}
    for name in task.of_kind("number"):
        if train is None or name not in train.column_names or not _is_number(train[name].type):
            continue
        values = train[name].drop_null().to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            ranges[name] = float(values.min()), float(values.max())
    return ranges


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
