"""Images with truth and answer, as plain values: the gallery, and the examples that were logged during training.

One tolerance decides everywhere whether a number is right.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from phisight.core.seeding import hashed_fraction
from phisight.core.task import FieldValue, Task
from phisight.report.collect import ExampleRow, RunData, Shown
from phisight.report.format import number

GRID = 24
"""Images of the two selections that people look at: the worst and a random sample."""
NEAR = 0.10
"""A number this close to the truth, as a share of it, counts as right where scores.json does not say another one."""


def data_uri(jpeg: bytes | None) -> str:
    """An image within the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""


def card(run: RunData, shown: Shown) -> dict[str, Any]:
    """One image with truth and answer."""
    assert run.task is not None
    aliases = run.scores.get("aliases", {})
    lines = [
        {**line, "label": aliases.get(line["field"], line["field"])}
        for line in card_lines(run.task, shown, tolerance(run))
    ]
    return {
        "key": shown.key,
        "image": data_uri(shown.thumbnail),
        "wrong": [line["field"] for line in lines if not line["right"]],
        "lines": lines,
        "unread": shown.reason,
        "answer": shown.answer,
    }


def tolerance(run: RunData) -> float:
    """How far a number may be from its truth, as a share of it, and still count as right: one value for the page."""
    return float(run.scores.get("tolerance", NEAR))


def cards(run: RunData) -> list[dict[str, Any]]:
    """Images with truth and answer; each belongs to the worst, to the random sample, to both or to neither."""
    if run.task is None:
        return []
    worst = {shown.row for shown in run.shown[:GRID]}
    drawn = sorted(
        (shown for shown in run.shown if shown.drawn), key=lambda shown: hashed_fraction(1, "grid", shown.row)
    )
    random = {shown.row for shown in drawn[:GRID]}
    category = next(iter(run.task.of_kind("category")), None)
    return [
        {
            **card(run, shown),
            "category": run.task.fields[category].write(shown.truth[category]) if category else "",
            "sets": " ".join(name for name, rows in (("worst", worst), ("random", random)) if shown.row in rows),
        }
        for shown in run.shown
    ]


def card_lines(task: Task, shown: Shown, near: float = NEAR) -> list[dict[str, Any]]:
    """Each field with truth, answer and whether it is right; a number is right within ``near`` of its truth."""
    lines = _judged_lines(task, shown.truth, shown.predicted, near)
    return [{**line, "ends": _ends(shown, line["field"])} for line in lines]


def _judged_lines(
    task: Task, truth: Mapping[str, FieldValue], given: Mapping[str, FieldValue] | None, near: float
) -> list[dict[str, Any]]:
    """Each field of a truth and the answer to it, if there is one."""
    lines = []
    for name in task.names:
        right, off, answer = False, "", None
        if given:
            answer = task.fields[name].write(given[name])
            right, off = _is_right(task, name, truth[name], given[name], near)
        written = task.fields[name].write(truth[name])
        lines.append({"field": name, "truth": written, "answer": answer, "right": right, "off": off})
    return lines


def _is_right(task: Task, name: str, truth: Any, given: Any, near: float) -> tuple[bool, str]:
    """Whether an answer is right, and how far off a number is."""
    field = task.fields[name]
    if field.write(truth) == field.write(given):
        return True, ""
    if truth is None or given is None:
        return False, ""
    if field.kind not in ("number", "integer") or not truth:
        return False, ""
    return field.rules.is_right(truth, given, near), f"{100 * (given - truth) / abs(truth):+.0f}\u00a0%"


def _ends(shown: Shown, name: str) -> str:
    """The interval around a number."""
    if not shown.lower or not shown.upper or shown.lower.get(name) is None:
        return ""
    return f"{number(shown.lower[name])} to {number(shown.upper[name])}"


def examples(run: RunData) -> list[dict[str, Any]]:
    """Products with their answers at each step; ``lines`` by field where truth and answer can be read."""
    return [
        {"key": row.key, "image": data_uri(row.image), "truth": row.truth, "answers": _answers(run, row)}
        for row in run.examples
    ]


def _answers(run: RunData, row: ExampleRow) -> list[dict[str, Any]]:
    found = []
    for step in run.steps:
        text = row.answers.get(step)
        lines = _logged_lines(run, row.truth, text)
        right = all(line["right"] for line in lines) if lines else text == row.truth
        found.append({"step": step, "text": text, "lines": lines, "right": right, "unread": None})
    return found


def _logged_lines(run: RunData, truth: str, answer: str | None) -> list[dict[str, Any]]:
    """Fields of a logged answer, judged as those of the gallery are; none where truth or answer cannot be read."""
    if answer is None or run.task is None:
        return []
    task, aliases = run.task, run.scores.get("aliases", {})
    wanted, given = task.parse(truth).values, task.parse(answer).values
    if wanted is None or given is None:
        return []
    lines = _judged_lines(task, wanted, given, tolerance(run))
    return [{**line, "label": aliases.get(line["field"], line["field"]), "ends": ""} for line in lines]


def level_of_ends(run: RunData) -> str:
    """What the range behind a number promises ("80 %"); empty where the rows have none."""
    levels = {one["level"] for one in run.scores.get("prediction_intervals", {}).values()}
    return f"{100 * max(levels):.0f}\u00a0%" if levels else ""
