"""Rows -> answers -> parsed fields. Answers are generated, never read off the labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from phisight.core.errors import EvaluationError
from phisight.core.task import Task
from phisight.evaluate.answer_log import Journal
from phisight.evaluate.image_conditions import Images, pictures_shown, shown_rows
from phisight.evaluate.predictions import Predictions
from phisight.evaluate.rows import EvalRow
from phisight.generate import Predictor, Request

Progress = Callable[[int, int], None]
"""Called with (rows finished, rows in all)."""


def evaluate(
    predictor: Predictor,
    rows: Sequence[EvalRow],
    task: Task,
    *,
    images: Images = "real",
    seed: int = 0,
    journal: Path | None = None,
    identity: str = "",
    progress: Progress | None = None,
) -> Predictions:
    """Ask the model about every row.

    Args:
        predictor: Model and processor.
        rows: What to ask about; see ``read_rows``.
        task: Prompt, template and fields.
        images: Which picture a row is shown.
        seed: Decides which pictures are swapped.
        journal: Where finished answers are kept; a second call with the same arguments goes on from there.
        identity: Names the model (checkpoint, its hash), so that answers of another one are not taken over.
        progress: Told how far it is.

    A picture that cannot be used costs its own row, which then counts as unanswered with that reason.
    """
    if not rows:
        raise EvaluationError("there are no rows to evaluate; choose a split that has some")
    shown = shown_rows(rows, task, images, seed)
    with Journal(journal, _fingerprint(predictor, rows, task, images, seed, identity)) as done:
        todo = [row for row in range(len(rows)) if row not in done.answers and row not in done.failures]

        def tell() -> None:
            if progress is not None:
                progress(len(done.answers) + len(done.failures), len(rows))

        def fail(index: int, error: Exception) -> None:
            done.fail(todo[index], f"picture: {error}")
            tell()

        tell()
        requests = (Request(task.prompt, pictures_shown(rows, row, shown[row])) for row in todo)
        for index, text in predictor.answers(requests, on_failure=fail):
            done.answer(todo[index], text)
            tell()
    return Predictions.of(task, rows, images, shown, done.answers, done.failures)


def _fingerprint(
    predictor: Predictor, rows: Sequence[EvalRow], task: Task, images: Images, seed: int, identity: str
) -> str:
    digest = hashlib.sha256()
    settings = [task.model_dump(), images, seed, identity, predictor.max_new_tokens]
    settings += [predictor.constrained, predictor.numbers]
    digest.update(json.dumps(settings).encode())
    for row in rows:
        digest.update(
            json.dumps([row.key, [str(image) for image in row.images], row.content, dict(row.truth)]).encode()
        )
    return digest.hexdigest()
