"""A model and its processor to something that answers, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from phisight.core.datadir import SPLIT
from phisight.core.errors import DatasetError, EvaluationError
from phisight.core.settings import EvaluateSettings, Numbers
from phisight.core.task import Task
from phisight.data.folder import DatasetFolder
from phisight.generate import AnswerGrammar, Predictor, number_writer

LONGEST_NUMBER = "-999999999.9999"
"""As long as a constrained number gets."""
LEAST_TEXT = 4
"""Tokens that a free text of a constrained answer must at least be left."""


def predictor_of(
    model: Any, processor: Any, settings: EvaluateSettings, numbers: Numbers, task: Task, data: Sequence[Path]
) -> Predictor:
    """What answers; ``numbers`` is how the model was trained to give its numbers.

    Constrained answers take their categories from the first of ``data`` that has a training split.
    """
    grammar = None
    if settings.constrained:
        tokenizer, categories = processor.tokenizer, _categories(task, data)
        room = _text_room(task, tokenizer, categories, settings.max_new_tokens)
        ends = model.generation_config.eos_token_id
        grammar = AnswerGrammar(task, tokenizer, categories, ends, max_text_tokens=room)
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


def _categories(task: Task, data: Sequence[Path]) -> dict[str, list[str]]:
    """Values of each category field in a training split, as answers write them."""
    names = task.of_kind("category")
    if not names:
        return {}
    tried = []
    for path in dict.fromkeys(data):
        try:
            table = DatasetFolder.open(path).table
        except DatasetError as error:
            tried.append(str(error))
            continue
        train = table.filter(pc.equal(table[SPLIT], "train"))
        if train.num_rows and all(name in train.column_names for name in names):
            values = {name: train[name].unique().to_pylist() for name in names}
            return {name: sorted({" ".join(str(value).split()) for value in found}) for name, found in values.items()}
        tried.append(f"{path} has no training split with {', '.join(names)}")
    raise EvaluationError(
        f"evaluate.constrained needs the categories of a training split: {'; '.join(tried)}; name a data set that has "
        "one"
    )
