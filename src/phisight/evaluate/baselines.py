"""What can be had without fine-tuning, on the same rows: the bar a model has to clear.

    constant           the most frequent text and category and the median number of the training split
    category median    the median number of the row's true category (which it is told: more than the model gets)
    nearest neighbor  the fields of the training image whose features are closest (cosine)
    ridge              ridge regression on the features: numbers (on the logarithm where all are positive), categories

Features are float[n, d] arrays, such as those of the model's own vision tower; without them the last two are left out.
The first two learn from all training rows, the last two from the rows that have features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from phisight.core.errors import EvaluationError
from phisight.core.task import FieldValue, Task
from phisight.evaluate.comparison import compare
from phisight.evaluate.metrics import Column, alias, deciding, metrics_of
from phisight.evaluate.predictions import Predictions

Features = NDArray[np.floating[Any]]
Row = Mapping[str, FieldValue]
_ALPHAS = np.logspace(-1, 5, 13)


@dataclass(frozen=True)
class Baseline:
    """Answers of a baseline; a field it does not predict is absent."""

    name: str
    about: str
    predicted: Mapping[str, Column]


def fit_baselines(
    task: Task,
    train: Sequence[Row],
    test: Sequence[Row],
    train_features: Features | None = None,
    test_features: Features | None = None,
    *,
    sample: Sequence[Row] | None = None,
    tower: str = "vision tower",
) -> list[Baseline]:
    """All baselines that are possible, fitted on ``train`` and answering ``test`` (true fields of each row).

    ``train_features`` are those of ``sample`` (None means of all training rows); ``tower`` names where they come from.
    """
    if not train or not test:
        raise EvaluationError(f"baselines need rows on both sides: {len(train)} to learn from, {len(test)} to answer")
    found = [_constant(task, train, len(test))]
    if task.of_kind("category") and task.of_kind("number"):
        found.append(_category_median(task, train, test))
    if train_features is not None and test_features is not None:
        some = train if sample is None else sample
        if (len(train_features), len(test_features)) != (len(some), len(test)):
            raise EvaluationError(
                f"features of {len(train_features)} and {len(test_features)} rows for {len(some)} and {len(test)} rows"
            )
        about = f"on features of the {tower}, from {len(some)} of {len(train)} training rows"
        found.append(_nearest(task, some, train_features, test_features, about))
        found.append(_ridge(task, some, train_features, test_features, about))
    return found


def _column(rows: Sequence[Row], field: str) -> list[FieldValue]:
    return [row[field] for row in rows]


def _constant(task: Task, train: Sequence[Row], count: int) -> Baseline:
    values: dict[str, Column] = {}
    for name in task.names:
        column = _column(train, name)
        number = task.fields[name].kind == "number"
        value = float(np.median(np.asarray(column, float))) if number else Counter(column).most_common(1)[0][0]
        values[name] = [value] * count
    return Baseline("constant", "always the commonest text and category and the median number", values)


def _category_median(task: Task, train: Sequence[Row], test: Sequence[Row]) -> Baseline:
    category = task.of_kind("category")[0]
    values: dict[str, Column] = {}
    for name in task.of_kind("number"):
        members: dict[FieldValue, list[float]] = {}
        for row in train:
            members.setdefault(row[category], []).append(float(row[name]))
        medians = {value: float(np.median(numbers)) for value, numbers in members.items()}
        overall = float(np.median(np.asarray(_column(train, name), float)))
        values[name] = [medians.get(row[category], overall) for row in test]
    return Baseline("category median", "the median number of the true category, which it is told", values)


def _nearest(
    task: Task, train: Sequence[Row], train_features: Features, test_features: Features, about: str
) -> Baseline:
    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(train_features)
    closest = index.kneighbors(test_features, return_distance=False)[:, 0]
    values: dict[str, Column] = {name: [train[row][name] for row in closest] for name in task.names}
    return Baseline("nearest neighbor", f"the fields of the most similar training image, {about}", values)


def _ridge(task: Task, train: Sequence[Row], train_features: Features, test_features: Features, about: str) -> Baseline:
    values: dict[str, Column] = {}
    for name in task.of_kind("number"):
        target = np.asarray(_column(train, name), float)
        logarithmic = bool((target > 0).all())
        fitted = make_pipeline(StandardScaler(), RidgeCV(_ALPHAS))
        fitted.fit(train_features, np.log(target) if logarithmic else target)
        answers = fitted.predict(test_features)
        if logarithmic:  # clipped to what was seen: a line extrapolates, its exponential even more
            answers = np.exp(np.clip(answers, np.log(target.min()), np.log(target.max())))
        values[name] = [float(answer) for answer in answers]
    for name in task.of_kind("category"):
        labels = _column(train, name)
        if len(set(labels)) > 1:
            classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(_ALPHAS))
            values[name] = [str(label) for label in classifier.fit(train_features, labels).predict(test_features)]
    return Baseline("ridge", f"ridge regression {about}", values)


def against_baselines(model: Predictions, every: Sequence[Baseline], *, seed: int = 0) -> dict[str, Any]:
    """Figures of each baseline on the rows of ``model`` and the paired comparison model - baseline, for scores.json."""
    task, result = model.task, {}
    for baseline in every:
        figures: dict[str, float | None] = {}
        against = {}
        for name, column in baseline.predicted.items():
            truth, kind = model.truth(name), task.fields[name].kind
            figures |= {
                f"{alias(task, name)}_{metric.name}": metric(truth, column, model.typical(name))
                for metric in metrics_of(kind)
            }
            metric = deciding(kind)
            one = compare(
                f"{alias(task, name)}_{metric.name}",
                metric,
                truth,
                model.predicted(name),
                column,
                groups=model.groups,
                typical=model.typical(name),
                seed=seed,
            )
            against[alias(task, name)] = one.as_json() if one else None
        result[baseline.name] = {"about": baseline.about, **figures, "model_against": against}
    return result
