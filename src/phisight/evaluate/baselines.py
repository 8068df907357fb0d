"""What can be had without fine-tuning, on the same rows: the bar a model has to clear.

    constant           what each kind of field calls typical of the training split: the median number or day, the most
                       frequent text, category or truth value, the entries that most lists hold
    category median    the median number or day of the row's true category (which it is told: more than the model gets)
    nearest neighbor  the fields of the training image whose features are closest (cosine)
    ridge              ridge regression on the features: numbers and days (numbers on the logarithm where all are
                       positive), categories, truth values

Features are float[n, d] arrays, such as those of the model's own vision tower; without them the last two are left out.
The first two learn from all training rows, the last two from the rows that have features. scikit-learn is
imported where it is used: it takes a second, and what answers or exports needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.core.errors import EvaluationError
from phisight.core.task import FieldValue, Task
from phisight.evaluate.comparison import compare
from phisight.evaluate.metrics import Column, alias, field_deciding, field_metrics
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
    if task.of_kind("category") and _measured(task):
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


def _measured(task: Task) -> list[str]:
    """Fields whose values lie on a scale."""
    return [name for name in task.names if task.fields[name].rules.has_scale]


def _known(rows: Sequence[Row], field: str) -> list[FieldValue]:
    """The values that there are."""
    return [row[field] for row in rows if row[field] is not None]


def _mostly_absent(rows: Sequence[Row], field: str) -> bool:
    return 2 * len(_known(rows, field)) < len(rows)


def _constant(task: Task, train: Sequence[Row], count: int) -> Baseline:
    values: dict[str, Column] = {}
    for name in task.names:
        known = _known(train, name)
        typical = task.fields[name].rules.typical(known) if known and not _mostly_absent(train, name) else None
        values[name] = [typical] * count
    return Baseline("constant", "always the commonest text and category and the median number", values)


def _category_median(task: Task, train: Sequence[Row], test: Sequence[Row]) -> Baseline:
    category = task.of_kind("category")[0]
    values: dict[str, Column] = {}
    for name in _measured(task):
        rules = task.fields[name].rules
        members: dict[FieldValue, list[FieldValue]] = {}
        for row in train:
            if row[name] is not None:
                members.setdefault(row[category], []).append(row[name])
        medians = {value: rules.typical(known) for value, known in members.items()}
        known = _known(train, name)
        values[name] = [medians.get(row[category], rules.typical(known)) if known else None for row in test]
    return Baseline("category median", "the median number of the true category, which it is told", values)


def _nearest(
    task: Task, train: Sequence[Row], train_features: Features, test_features: Features, about: str
) -> Baseline:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(train_features)
    closest = index.kneighbors(test_features, return_distance=False)[:, 0]
    values: dict[str, Column] = {name: [train[row][name] for row in closest] for name in task.names}
    return Baseline("nearest neighbor", f"the fields of the most similar training image, {about}", values)


def _ridge(task: Task, train: Sequence[Row], train_features: Features, test_features: Features, about: str) -> Baseline:
    """Of optional fields it learns the values that there are, and gives every row one."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values: dict[str, Column] = {}
    for name in task.names:
        rules = task.fields[name].rules
        rows = [row for row, one in enumerate(train) if one[name] is not None]
        known, features = [train[row][name] for row in rows], train_features[rows]
        if rules.label and len(set(known)) > 1:
            codes = sorted(set(known), key=str)
            classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(_ALPHAS))
            classifier.fit(features, [codes.index(value) for value in known])
            values[name] = [codes[int(code)] for code in classifier.predict(test_features)]
        elif rules.has_scale and known:
            target = np.asarray([rules.to_number(value) for value in known], float)
            values[name] = [rules.of_number(float(one)) for one in _fitted(features, target, test_features)]
    return Baseline("ridge", f"ridge regression {about}", values)


def _fitted(features: Features, target: NDArray[np.float64], test_features: Features) -> NDArray[np.float64]:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logarithmic = bool((target > 0).all())
    fitted = make_pipeline(StandardScaler(), RidgeCV(_ALPHAS))
    fitted.fit(features, np.log(target) if logarithmic else target)
    answers: NDArray[np.float64] = fitted.predict(test_features)
    if logarithmic:  # clipped to what was seen: a line extrapolates, its exponential even more
        answers = np.exp(np.clip(answers, np.log(target.min()), np.log(target.max())))
    return answers


def against_baselines(model: Predictions, every: Sequence[Baseline], *, seed: int = 0) -> dict[str, Any]:
    """Figures of each baseline on the rows of ``model`` and the paired comparison model - baseline, for scores.json."""
    task, result = model.task, {}
    for baseline in every:
        figures: dict[str, float | None] = {}
        against = {}
        for name, column in baseline.predicted.items():
            truth = model.truth(name)
            figures |= {
                f"{alias(task, name)}_{metric.name}": metric(truth, column, model.typical(name))
                for metric in field_metrics(task, name)
            }
            metric = field_deciding(task, name)
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
