"""What an arm of ``preference.py`` answers, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from price_figures import is_drawn, noise_left, rows_of

from phisight.core.dataset_folder import Split
from phisight.core.kinds.kind import as_number
from phisight.core.settings import EvaluateSettings
from phisight.core.task import Task
from phisight.data.dataset.folder import DatasetFolder
from phisight.evaluate import EvalRow, Predictions, evaluate, likelihoods, read_rows
from phisight.evaluate.metrics import is_right
from phisight.generate import Predictor
from phisight.workflows.load import load_run
from phisight.workflows.predict import predictor_of

GAP_ROWS = 128


def answered(run: Path, folder: Path, split: Split | None) -> dict[str, Any]:
    """Answers of a run to all rows of a drawn folder, or to a ``split`` of any other: see ``figures_by_row``."""
    model, processor, _ = load_run(run)
    task = DatasetFolder.open(folder).task
    predictor = predictor_of(model, processor, EvaluateSettings(batch_size=64), "text", task, [folder])
    return figures_by_row(predictor, task, folder, split)


def figures_by_row(predictor: Predictor, task: Task, folder: Path, split: Split | None) -> dict[str, Any]:
    """Of each row: its product; of each title and category whether it is wrong, also with another product's image; the
    price's relative error, and that of the known noise where the folder is a drawn one. Of a sample: likelihood gap.
    """
    rows = read_rows(folder, task, split).rows if split else rows_of(folder)
    real, shuffled = (evaluate(predictor, rows, task, images=images) for images in ("real", "shuffled"))
    own, other = (likelihoods(predictor, one, limit=GAP_ROWS) for one in (real, shuffled))
    found: dict[str, Any] = {"split": split, "groups": real.groups}
    for name in (*task.of_kind("text"), *task.of_kind("category")):
        found[f"{name}_wrong"] = wrong(task, name, real)
        found[f"{name}_wrong_shuffled"] = wrong(task, name, shuffled)
    for price in task.of_kind("number")[:1]:
        found["price_error"] = [error(row, price, values) for row, values in zip(rows, real.parsed, strict=True)]
        if is_drawn(folder):
            noise = noise_left(folder, folder)
            found["noise_error"] = [error(row, price, {price: noise[row.key]}) for row in rows]
    found["gap"] = {str(row): own[row].log_probability - other[row].log_probability for row in own if row in other}
    return found


def wrong(task: Task, name: str, answers: Predictions) -> list[bool]:
    """Of each row whether the answer to a field is not the true one; an answer that cannot be read is wrong."""
    return [
        values is None or not is_right(task, name, row.truth[name], values[name])
        for row, values in zip(answers.rows, answers.parsed, strict=True)
    ]


def error(row: EvalRow, price: str, values: Mapping[str, Any] | None) -> float:
    """Relative error of a price; 1 where the answer cannot be read."""
    truth = as_number(row.truth[price])
    answer = None if values is None else values[price]
    return 1.0 if answer is None else abs(as_number(answer) - truth) / truth
