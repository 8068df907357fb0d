"""A model and its processor to something that answers, as the settings say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from phisight.core.datadir import SPLIT
from phisight.core.errors import DatasetError, EvaluationError
from phisight.core.settings import EvaluateSettings, Numbers
from phisight.core.task import Task
from phisight.data.folder import DatasetFolder
from phisight.generate import AnswerGrammar, Predictor, number_writer

TEXT_SHARE = 0.5
"""Share of an answer's tokens that its free texts may take when answers are constrained: the rest must fit behind."""


def predictor_of(
    model: Any, processor: Any, settings: EvaluateSettings, numbers: Numbers, task: Task, data: Sequence[Path]
) -> Predictor:
    """What answers; ``numbers`` is how the model was trained to give its numbers.

    Constrained answers take their categories from the first of ``data`` that has a training split.
    """
    grammar = None
    if settings.constrained:
        texts = max(1, len(task.of_kind("text")))
        grammar = AnswerGrammar(
            task,
            processor.tokenizer,
            _categories(task, data),
            model.generation_config.eos_token_id,
            max_text_tokens=max(1, int(TEXT_SHARE * settings.max_new_tokens / texts)),
        )
    return Predictor(
        model,
        processor,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        grammar=grammar,
        numbers=number_writer(numbers, task, processor.tokenizer),
    )


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
