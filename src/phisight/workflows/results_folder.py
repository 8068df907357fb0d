"""Where an evaluation goes and what it was of: the run's own results are never replaced by those of a sample.

RUN/scores.json                  the last full evaluation of the recipe's split
RUN/evaluations/NAME/            any other split, data set or number of rows: validation, test-5-rows, shop-test
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phisight.core.run_folder import EVALUATIONS, FINGERPRINT
from phisight.core.settings import EvaluateSettings, Recipe
from phisight.export.subject import data_of_run


def results_folder(run: Path, recipe: Recipe, settings: EvaluateSettings, data: Path) -> Path:
    """The run folder for the recipe's own evaluation, else a folder named after what is different."""
    own = recipe.evaluate
    other_data = data.resolve() not in (recipe.data.path.resolve(), data_of_run(run, recipe).resolve())
    if settings.split == own.split and settings.rows == own.rows and not other_data:
        return run
    parts = [data.resolve().name] if other_data else []
    parts.append(settings.split)
    parts += [f"{settings.rows}-rows"] if settings.rows is not None else []
    return run / EVALUATIONS / "-".join(parts)


def evaluation_facts(recipe: Recipe, settings: EvaluateSettings, data: Path, fingerprint: str) -> dict[str, Any]:
    """Key ``evaluation`` of scores.json: which model answered which rows, and when."""
    return {
        "model": recipe.model.name,
        FINGERPRINT: fingerprint,
        "data": str(data),
        "split": settings.split,
        "limit": settings.rows,
        "constrained": settings.constrained,
        "max_new_tokens": settings.max_new_tokens,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def length_warning(tokenizer: Any, answers: Sequence[str], max_new_tokens: int) -> str | None:
    """What to do where the longest of some training answers does not fit into an answer; None where it does."""
    longest = sorted(answers, key=len)[-100:]  # the answer of most tokens is among those of most characters
    if not longest:
        return None
    most = max(len(ids) for ids in tokenizer(longest, add_special_tokens=False).input_ids) + 1
    if most <= max_new_tokens:
        return None
    return (
        f"the longest training answer has {most} tokens with its end, and evaluate.max_new_tokens = {max_new_tokens}: "
        f"longer answers are cut and count as unread; set it to {most * 5 // 4} or more"
    )
