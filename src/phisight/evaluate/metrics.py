"""The metrics of each kind of field.

A metric's name in scores.json is ``<alias>_<metric>``: ``category_accuracy``, ``title_exact``, ``price_mae``. The alias
is the first of the words title, category and price that the field's name holds, where no other field's name holds the
same word (full_price -> price, category3_code -> category), else the field's own name.

An unanswered row (its text could not be read, or its image could not be used) is wrong for text and category. For
numbers it has no value: the plain metrics are over the answered rows, ``<alias>_answered`` says which share that is,
and ``<alias>_mae_penalised``, ``<alias>_median_ape_penalised`` and ``<alias>_smape_penalised`` count it as a 0.

Shares and percentage errors are fractions: 0.1 is 10 %; SMAPE runs from 0 to 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from phisight.core.task import FieldKind, FieldValue, Task
from phisight.evaluate.statistics.resamples import Median, OfCells, OfMeans

Array = NDArray[np.float64]
Column = Sequence[FieldValue | None]
_WORDS = ("title", "category", "price")


def alias(task: Task, field: str) -> str:
    """What a field is called in the names of metrics."""
    for word in _WORDS:
        if word in field.lower() and sum(word in name.lower() for name in task.names) == 1:
            return word
    return field


@dataclass(frozen=True)
class Metric:
    """One figure over many rows.

    ``rows`` makes arrays float64[n] of truths and answers (answers may be none); ``reduce`` makes one figure of such
    arrays along ``axis``: float64[..., n] -> float64[...]; see statistics/resamples.py for many of them.
    """

    name: str
    kind: FieldKind
    higher_is_better: bool
    rows: Callable[[Sequence[FieldValue], Column], tuple[Array, ...]]
    reduce: Callable[..., Any]

    def __call__(self, truth: Sequence[FieldValue], predicted: Column) -> float | None:
        """The figure; none where it is not defined (no answered row, no spread in the truth)."""
        columns = self.rows(truth, predicted)
        if not columns[0].size:
            return None
        value = float(self.reduce(*columns, axis=-1))
        return value if np.isfinite(value) else None


def _itself(values: Array) -> tuple[Array, ...]:
    return (values,)


def _for_r2(truth: Array, predicted: Array) -> tuple[Array, ...]:
    centred = truth - truth.mean()
    return (truth - predicted) ** 2, centred, centred**2


def _r2(error: Any, centre: Any, square: Any) -> Any:
    """From means: squared error, distance from the centre, its square. Spread that is only rounding is none."""
    spread = np.asarray(square - centre**2)
    spread = np.where(spread > 1e-12 * square, spread, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - error / spread


def _macro_f1(truth: Array, predicted: Array, counts: Array) -> Any:
    """Mean F1 over the classes that occur in the truth, of pairs of codes and their counts [..., K]; -1: no class."""
    classes = np.unique(truth)
    of_truth, of_answer = truth[:, None] == classes, predicted[:, None] == classes
    wanted, given, right = (counts @ some.astype(float) for some in (of_truth, of_answer, of_truth & of_answer))
    present = wanted > 0
    figures = 2 * right / np.where(present, wanted + given, 1.0)
    return np.where(present, figures, 0.0).sum(axis=-1) / present.sum(axis=-1)


MEAN = OfMeans(_itself, lambda mean: mean)
ROOT = OfMeans(_itself, np.sqrt)


def _codes(truth: Sequence[FieldValue], predicted: Column) -> tuple[Array, Array]:
    codes = {value: code for code, value in enumerate(sorted(set(map(str, truth))))}
    answers = [codes.get(str(value), -1) if value is not None else -1 for value in predicted]
    return np.asarray([codes[str(value)] for value in truth], float), np.asarray(answers, float)


def _equal(truth: Sequence[FieldValue], predicted: Column) -> tuple[Array, ...]:
    return (np.asarray([wanted == given for wanted, given in zip(truth, predicted, strict=True)], float),)


def _token_f1(truth: Sequence[FieldValue], predicted: Column) -> tuple[Array, ...]:
    return (_similarities(shared_words, truth, predicted),)


def _edit_similarity(truth: Sequence[FieldValue], predicted: Column) -> tuple[Array, ...]:
    return (_similarities(Levenshtein.normalized_similarity, truth, predicted),)


def _similarities(of: Callable[[str, str], float], truth: Sequence[FieldValue], predicted: Column) -> Array:
    pairs = zip(truth, predicted, strict=True)
    return np.asarray([of(str(wanted), str(given)) if given is not None else 0.0 for wanted, given in pairs])


def shared_words(truth: str, predicted: str) -> float:
    """F1 of the words of two texts as bags, case ignored."""
    left, right = truth.lower().split(), predicted.lower().split()
    shared = sum(min(left.count(word), right.count(word)) for word in set(left))
    return 2 * shared / (len(left) + len(right)) if left or right else 1.0


def numbers(truth: Sequence[FieldValue], predicted: Column, unanswered: float | None = None) -> tuple[Array, Array]:
    """Truth and answer float64[answered]; with ``unanswered`` given, all rows, that value for the others."""
    pairs = [
        (float(wanted), float(given) if given is not None else unanswered)
        for wanted, given in zip(truth, predicted, strict=True)
    ]
    answered = np.asarray([pair for pair in pairs if pair[1] is not None], float).reshape(-1, 2)
    return answered[:, 0], answered[:, 1]


def _absolute(truth: Array, predicted: Array) -> Array:
    return np.abs(predicted - truth)


def _percentage(truth: Array, predicted: Array) -> Array:
    """|error| / |truth| where the truth is not 0: there it is not defined."""
    defined = truth != 0
    return np.asarray(np.abs(predicted - truth)[defined] / np.abs(truth[defined]))


def _symmetric(truth: Array, predicted: Array) -> Array:
    size = np.abs(truth) + np.abs(predicted)
    return np.asarray(np.divide(2 * np.abs(predicted - truth), size, out=np.zeros_like(size), where=size > 0))


def _squared_log(truth: Array, predicted: Array) -> Array:
    """Squared difference of log(1 + x); answers below 0 count as 0, truths below 0 have none."""
    defined = truth >= 0
    return np.asarray((np.log1p(np.maximum(predicted[defined], 0)) - np.log1p(truth[defined])) ** 2)


def _number(
    name: str, figure: Callable[[Array, Array], Array], reduce: Callable[..., Any], higher: bool = False
) -> Metric:
    return Metric(name, "number", higher, lambda truth, predicted: (figure(*numbers(truth, predicted)),), reduce)


def _penalized(name: str, figure: Callable[[Array, Array], Array], reduce: Callable[..., Any]) -> Metric:
    def rows(truth: Sequence[FieldValue], predicted: Column) -> tuple[Array, ...]:
        return (figure(*numbers(truth, predicted, unanswered=0.0)),)

    return Metric(f"{name}_penalised", "number", False, rows, reduce)


def _within(share: float) -> Callable[[Array, Array], Array]:
    return lambda truth, predicted: (_percentage(truth, predicted) <= share).astype(float)


METRICS: tuple[Metric, ...] = (
    Metric("accuracy", "category", True, _equal, MEAN),
    Metric("macro_f1", "category", True, _codes, OfCells(_macro_f1)),
    Metric("exact", "text", True, _equal, MEAN),
    Metric("token_f1", "text", True, _token_f1, MEAN),
    Metric("edit_similarity", "text", True, _edit_similarity, MEAN),
    _number("mae", _absolute, MEAN),
    _number("median_ape", _percentage, Median()),
    _number("mape", _percentage, MEAN),
    _number("smape", _symmetric, MEAN),
    _number("rmsle", _squared_log, ROOT),
    Metric("r2", "number", True, numbers, OfMeans(_for_r2, _r2)),
    _number("within_10", _within(0.10), MEAN, higher=True),
    _number("within_25", _within(0.25), MEAN, higher=True),
    _penalized("mae", _absolute, MEAN),
    _penalized("median_ape", _percentage, Median()),
    _penalized("smape", _symmetric, MEAN),
)


def metrics_of(kind: FieldKind) -> list[Metric]:
    """The metrics of a kind of field, in the order of METRICS."""
    return [metric for metric in METRICS if metric.kind == kind]


def row_error(task: Task, truth: Mapping[str, FieldValue], predicted: Mapping[str, FieldValue] | None) -> float:
    """How wrong one row is: the mean over fields of 1 - similarity, 0 or 1, or the percentage error (at most 1)."""
    if predicted is None:
        return 1.0
    wrong = []
    for name in task.names:
        wanted, given = truth[name], predicted[name]
        if task.fields[name].kind == "category":
            wrong.append(float(wanted != given))
        elif task.fields[name].kind == "text":
            wrong.append(1 - Levenshtein.normalized_similarity(str(wanted), str(given)))
        else:
            gap = abs(float(given) - float(wanted))
            wrong.append(min(1.0, gap / abs(float(wanted))) if float(wanted) else float(gap > 0))
    return sum(wrong) / len(wrong)
