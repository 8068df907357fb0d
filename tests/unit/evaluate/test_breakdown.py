"""By category, by band, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from phisight.core.task import Task
from phisight.evaluate import EvalRow, Predictions, figures
from phisight.evaluate.breakdown import OTHER, UNANSWERED, by_band, by_category, confusion


def predictions(pairs: Sequence[tuple[tuple[str, float], tuple[str, float] | None]]) -> Predictions:
    def fields(value: tuple[str, float]) -> dict[str, Any]:
        return {"title": "T", "category3_code": value[0], "full_price": value[1]}

    rows = [EvalRow(str(place), Path(), fields(truth), "") for place, (truth, _) in enumerate(pairs)]
    parsed = [fields(answer) if answer else None for _, answer in pairs]
    nothing = [None] * len(pairs)
    return Predictions(Task(), "real", rows, nothing, nothing, parsed, nothing)


def test_by_category_counts_every_row_once() -> None:
    found = by_category(
        predictions([(("A", 10), ("A", 11)), (("A", 10), None), (("B", 20), ("A", 20)), (("A", 10), ("A", 10))])
    )
    assert [(line["category"], line["rows"]) for line in found] == [("A", 3), ("B", 1)]
    assert found[0]["category_accuracy"] == pytest.approx(2 / 3)
    assert found[0]["price_mae"] == pytest.approx(0.5)
    assert found[1]["category_accuracy"] == 0.0


def test_the_rows_behind_every_figure_are_stored() -> None:
    """Truths of 0 and below have no percentage, unread answers no error; penalties and shares are over all rows."""
    pairs: list[Any] = [
        (("A", 0.0), ("A", 5.0)),
        (("A", -2.0), ("A", -2.0)),
        (("A", 10.0), None),
        (("A", 8.0), ("A", 8)),
    ]
    counts = figures(predictions(pairs), resamples=0)["counts"]
    assert (counts["price_mae"], counts["price_mape"], counts["price_median_ape"], counts["price_rmsle"]) == (
        3,
        2,
        2,
        2,
    )
    assert (counts["price_mae_penalized"], counts["price_within_10"], counts["category_accuracy"]) == (4, 4, 4)
    assert counts["price_median_ape_penalized"] == 3


def test_by_band_counts_every_row_once() -> None:
    lines = by_band(predictions([(("A", price), ("A", price + 1)) for price in range(1, 51)]))["price"]
    assert [line["rows"] for line in lines] == [10] * 5
    assert lines[0]["low"] == 1.0
    assert lines[-1]["high"] == 50.0
    assert all(line["price_mae"] == pytest.approx(1.0) for line in lines)


def test_one_price_is_one_band() -> None:
    (line,) = by_band(predictions([(("A", 5.0), ("A", 5.0))] * 3))["price"]
    assert (line["rows"], line["low"], line["high"]) == (3, 5.0, 5.0)


def test_confusion_counts_every_row_once() -> None:
    pairs = [(("A", 1.0), ("B", 1.0)), (("A", 1.0), ("Zebra", 1.0)), (("B", 1.0), None), (("B", 1.0), ("B", 1.0))]
    found = confusion(Task(), predictions(pairs))["category"]
    assert found == {
        "labels": ["A", "B"],
        "answers": ["A", "B", OTHER, UNANSWERED],
        "counts": [[0, 1, 1, 0], [0, 1, 0, 1]],
    }


def test_rare_categories_are_put_together() -> None:
    pairs = [((f"C{place}", 1.0), (f"C{place}", 1.0)) for place in range(40)] + [(("C0", 1.0), ("C39", 1.0))]
    found = confusion(Task(), predictions(pairs), most=5)["category"]
    assert found["labels"] == ["C0", "C1", "C2", "C3", "C4", "(35 others)"]
    assert found["counts"][-1][-1] == 35
    assert found["counts"][0][-1] == 1
    assert sum(map(sum, found["counts"])) == 41


def test_a_task_without_category_or_number() -> None:
    task = Task(answer="{title}", fields={"title": "text"})
    rows = [EvalRow("a", Path(), {"title": "A"}, "A")]
    none = Predictions(task, "real", rows, [0], ["A"], [{"title": "A"}], [None])
    assert by_category(none) == []
    assert by_band(none) == {}
    assert confusion(task, none) == {}
