"""A model and its processor to something that answers, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from phisight.core.dataset_folder import SPLIT
from phisight.core.errors import DatasetError, EvaluationError
from phisight.core.settings import EvaluateSettings, Numbers
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.generate import AnswerGrammar, Predictor, number_writer

LONGEST_NUMBER = "-999999999.9999"
"""As long as a constrained number gets."""
LEAST_TEXT = 4
"""Tokens that a free text of a constrained answer must at least be left."""


def predictor_of(
    model: Any, processor: Any, settings: EvaluateSettings, numbers: Numbers, task: Task, data: Sequence[Path]
) -> Predictor:
    """What answers; ``numbers`` is how the model was trained to give its numbers.

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


def _text_room(task: Task, tokenizer: Any, categories: Mapping[str, Sequence[str]], most: int) -> int:
    """Tokens for each free text of a constrained answer, so that the longest of everything else fits behind it.

    A quarter is added for a model that spells a word in more tokens than the tokenizer would.
    """
    longest = {name: max(values, key=len) for name, values in categories.items()}
    numbers = dict.fromkeys(task.of_kind("number"), LONGEST_NUMBER)
    texts = task.of_kind("text")
    rest = task.answer
    for name, value in {**longest, **numbers, **dict.fromkeys(texts, "")}.items():
        rest = rest.replace("{" + name + "}", value)
    needed = len(tokenizer(rest, add_special_tokens=False).input_ids) * 5 // 4 + 4
    room = (most - needed) // max(1, len(texts))
    if room < LEAST_TEXT:
        raise EvaluationError(
            f"evaluate.max_new_tokens = {most} is too few for constrained answers: names, categories and numbers alone "
            f"may take {needed}; set it to {needed + LEAST_TEXT * len(texts)} or more"
        )
    return room


def _training_rows(task: Task, data: Sequence[Path]) -> pa.Table | None:
    """The training split of the first of ``data`` that has one with the task's categories and numbers; none where the
    task has no category, which cannot do without.
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
