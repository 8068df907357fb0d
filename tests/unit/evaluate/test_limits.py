"""Figures of foreign and refused images, and the error at each coverage, on answers whose figures are known."""

from pathlib import Path

import numpy as np
import pytest

from phisight.core.task import Task
from phisight.evaluate import EvalRow, Predictions
from phisight.evaluate.limits.foreign import foreign_figures, foreign_rows, grouped_share, refused, refusing
from phisight.evaluate.limits.risk_coverage import COVERAGES, risk_coverage
from phisight.evaluate.statistics.wilson import wilson
from tests.helpers.shop import answer_of, make_rows

TASK = Task().abstaining()
NOTHING = TASK.render(TASK.not_shown)


@pytest.mark.parametrize(
    ("counted", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 100, 0.0018, 0.0545), (0, 0, 0.0, 1.0)],
)
def test_wilson(counted: int, total: int, low: float, high: float) -> None:
    """Worked out from the formula (Wilson 1927)."""
    found = wilson(counted, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def strange(kinds: list[str]) -> list[EvalRow]:
    lines = [
        {
            "__foreign__": kind,
            "file_name": f"{place}.png",
            "image_sha256": str(place),
            "image_width": 8,
            "image_height": 8,
        }
        for place, kind in enumerate(kinds)
    ]
    return foreign_rows(Path("foreign"), lines, TASK)


def answered(rows: list[EvalRow], answers: list[str]) -> Predictions:
    shown = list(range(len(rows)))
    return Predictions.of(TASK, rows, "real", shown, dict(enumerate(answers)), {})


def test_invented_values_are_counted_by_image_kind_and_field() -> None:
    partly = "Product: not shown, Category: HATS, Full Price: not shown"
    rows = strange(["noise", "noise", "map", "map"])
    found = foreign_figures(answered(rows, [NOTHING, partly, answer_of(1), "nonsense"]))
    assert found["images"] == 4
    assert (found["invented"]["count"], found["unread"]["count"]) == (2, 1)
    assert {kind: one["count"] for kind, one in found["by_kind"].items()} == {"noise": 1, "map": 1}
    assert {name: one["count"] for name, one in found["by_field"].items()} == {
        "title": 1,
        "category3_code": 2,
        "full_price": 1,
    }
    ends = wilson(2, 4)
    assert found["invented"]["interval"] == [ends.low, ends.high]


def test_refusals_of_real_images_are_counted_by_product(tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 8)
    partly = "Product: Thing 2, Category: not shown, Full Price: 12.0"
    answers = [row.expected for row in rows]
    answers[1], answers[2], answers[3] = NOTHING, partly, "nonsense"
    found = refused(answered(rows, answers))
    assert (found["count"], found["of"], found["groups"]) == (2, 8, 8)
    assert found["interval"][0] < 0.25 < found["interval"][1]


def test_an_image_that_is_too_unfamiliar_has_no_value(tmp_path: Path) -> None:
    """By the image that was shown, not by the row; what cannot be read, or shows no row's image, stays as it is."""
    rows = make_rows(tmp_path, 5)
    texts = dict(enumerate([answer_of(1), answer_of(2), answer_of(3), "nonsense", answer_of(4)]))
    sure = {row: dict.fromkeys(TASK.names, 0.9) for row in (0, 1, 2, 4)}
    answers = Predictions.of(TASK, rows, "shuffled", [1, 0, 2, 0, None], texts, {}, written=texts, confidences=sure)
    found = refusing(answers, [1.01, 1.0, float("nan"), 0.2, 9.0])
    nothing = dict.fromkeys(TASK.names)
    assert [one == nothing for one in found.parsed] == [False, True, False, False, False]
    assert [found.parsed[row] for row in (0, 2, 3, 4)] == [answers.parsed[row] for row in (0, 2, 3, 4)]
    assert found.answers == answers.answers
    assert [one is not None for one in found.confidences] == [True, False, True, False, True]
    assert (refused(found)["count"], refused(answers)["count"]) == (1, 0)
    assert foreign_figures(found)["invented"]["count"] == foreign_figures(answers)["invented"]["count"] - 1
    assert found.as_written().parsed[1] == nothing
    assert found.as_written().parsed[0] == answers.parsed[0]


def test_groups_widen_the_interval() -> None:
    counted = [True] * 10 + [False] * 90
    alone = grouped_share(counted, [str(row) for row in range(100)])
    together = grouped_share(counted, [str(row // 10) for row in range(100)])
    assert alone["share"] == together["share"] == 0.1
    assert together["interval"][1] > alone["interval"][1]
    none = grouped_share([False] * 100, [str(row // 10) for row in range(100)])
    assert none["interval"] == [0.0, pytest.approx(wilson(0, 10).high)]


def test_the_error_falls_where_confidence_knows_what_is_wrong() -> None:
    rng = np.random.default_rng(0)
    wrong = (rng.random(400) < 0.3).tolist()
    sure: list[float | None] = [0.9 - 0.5 * one + 0.1 * float(rng.random()) for one in wrong]
    found = risk_coverage(wrong, sure, [str(row) for row in range(400)])
    points = {point["coverage"]: point for point in found["points"]}
    assert list(points) == list(COVERAGES)
    assert points[1.0]["error"] == pytest.approx(np.mean(wrong))
    assert points[0.5]["error"] == 0
    assert points[0.5]["rows"] == 200
    assert found["gain"]["interval"][0] > 0
    for point in found["points"]:
        low, high = point["interval"]
        assert low <= point["error"] <= high
    blind = risk_coverage(wrong, rng.random(400).tolist(), [str(row) for row in range(400)])
    assert blind["gain"]["interval"][0] < 0 < blind["gain"]["interval"][1]


def test_answers_that_cannot_be_read_come_last() -> None:
    found = risk_coverage([True, False, False, False], [None, 0.2, 0.3, 0.1], list("abcd"))
    points = {point["coverage"]: point for point in found["points"]}
    assert (points[1.0]["error"], points[0.75]["error"]) == (0.25, 0.0)
    one = risk_coverage([True, False], [0.5, 0.4], ["a", "a"])
    assert one["gain"]["interval"] is None
