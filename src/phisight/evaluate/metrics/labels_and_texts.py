"""Metrics of categories and free texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from phisight.core.task import FieldValue
from phisight.evaluate.metrics.metric import Array, Column, Metric, MetricRows
from phisight.evaluate.statistics.group_test import MEAN
from phisight.evaluate.statistics.resamples import OfCells


def _macro_f1(truth: Array, predicted: Array, counts: Array) -> Any:
    """Mean F1 over the classes that occur in the truth, of pairs of codes and their counts [..., K]; -1: no class."""
    classes = np.unique(truth)
    of_truth, of_answer = truth[:, None] == classes, predicted[:, None] == classes
    wanted, given, right = (counts @ some.astype(float) for some in (of_truth, of_answer, of_truth & of_answer))
    present = wanted > 0
    figures = 2 * right / np.where(present, wanted + given, 1.0)
    return np.where(present, figures, 0.0).sum(axis=-1) / present.sum(axis=-1)


def _every_row(columns: Callable[[Sequence[FieldValue], Column], tuple[Array, ...]]) -> Callable[..., MetricRows]:
    def values(truth: Sequence[FieldValue], predicted: Column, _typical: float) -> MetricRows:
        return MetricRows(columns(truth, predicted), np.arange(len(truth)))

    return values


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


LABELS_AND_TEXTS: tuple[Metric, ...] = (
    Metric("accuracy", "category", True, _every_row(_equal), MEAN),
    Metric("macro_f1", "category", True, _every_row(_codes), OfCells(_macro_f1)),
    Metric("exact", "text", True, _every_row(_equal), MEAN),
    Metric("token_f1", "text", True, _every_row(_token_f1), MEAN),
    Metric("edit_similarity", "text", True, _every_row(_edit_similarity), MEAN),
)
