"""Metrics that a kind of field brings itself, and what an optional field is asked besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from phisight.core.kinds import KINDS, FieldValue, Figure
from phisight.evaluate.metrics.metric import Array, Column, Metric, MetricRows
from phisight.evaluate.statistics.group_test import MEAN
from phisight.evaluate.statistics.resamples import Median, OfCells


def _balanced(truth: Array, figure: Array, counts: Array) -> Any:
    """Mean over the true values of the mean figure, of pairs of codes and figures and their counts [..., K]."""
    classes = np.unique(truth)
    members = (truth[:, None] == classes).astype(float)
    rows, sums = counts @ members, (counts * figure) @ members
    present = rows > 0
    means = np.where(present, sums / np.where(present, rows, 1.0), 0.0)
    return means.sum(axis=-1) / present.sum(axis=-1)


_REDUCE: dict[str, Callable[..., Any]] = {"mean": MEAN, "median": Median(), "balanced": OfCells(_balanced)}


def _metric(kind: str, figure: Figure) -> Metric:
    def values(truth: Sequence[FieldValue], predicted: Column, _typical: float) -> MetricRows:
        rows, found = [], []
        for row, (wanted, given) in enumerate(zip(truth, predicted, strict=True)):
            one = figure.unanswered if given is None else figure.of_row(wanted, given)
            if one is not None and not np.isnan(one):
                rows.append(row)
                found.append(one)
        columns: tuple[Array, ...] = (np.asarray(found, np.float64),)
        if figure.reduce == "balanced":
            codes = {value: code for code, value in enumerate(dict.fromkeys(truth))}
            columns = (np.asarray([codes[truth[row]] for row in rows], np.float64), *columns)
        return MetricRows(columns, np.asarray(rows, np.int64))

    complete = figure.unanswered is not None
    return Metric(figure.name, kind, figure.higher_is_better, values, _REDUCE[figure.reduce], complete=complete)


OF_KINDS: tuple[Metric, ...] = tuple(_metric(name, figure) for name, kind in KINDS.items() for figure in kind.figures)


def where_there_is_one(metric: Metric) -> Metric:
    """The metric over the rows whose optional field has a value; an answer without one is as wrong as none."""

    def values(truth: Sequence[FieldValue], predicted: Column, typical: float) -> MetricRows:
        with_value = np.asarray([row for row, wanted in enumerate(truth) if wanted is not None], np.int64)
        found = metric.values([truth[row] for row in with_value], [predicted[row] for row in with_value], typical)
        return MetricRows(found.columns, with_value[found.rows])

    return replace(metric, values=values)


def _share(of_row: Callable[[bool, bool], float | None]) -> Callable[..., MetricRows]:
    def values(truth: Sequence[FieldValue], predicted: Column, _typical: float) -> MetricRows:
        both = zip(truth, predicted, strict=True)
        found = [of_row(wanted is not None, given is not None) for wanted, given in both]
        rows = np.asarray([row for row, one in enumerate(found) if one is not None], np.int64)
        return MetricRows((np.asarray([one for one in found if one is not None], np.float64),), rows)

    return values


def presence_metrics(kind: str) -> tuple[Metric, ...]:
    """How an optional field is scored on its own.

    ``invented``: share of the rows without a value whose answer has one. ``missed``: share of the rows with a value
    whose answer has none, unread answers included.
    """
    invented = _share(lambda wanted, given: None if wanted else float(given))
    missed = _share(lambda wanted, given: float(not given) if wanted else None)
    return (
        Metric("invented", kind, False, invented, MEAN),
        Metric("missed", kind, False, missed, MEAN),
    )
