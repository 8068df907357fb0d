"""What the page shows of one run, as plain values: the template only lays them out."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from phisight.core.seeding import hashed_fraction
from phisight.core.task import Task
from phisight.report import figures
from phisight.report.collect import ExampleRow, RunData, Shown
from phisight.report.words import EXPLAINED, TILES, metric_names, number, percent, split_name, written

GRID = 50
"""Pictures of the two selections that people look at: the worst and a random sample."""
NEAR = 0.10
"""A number this close to the truth passes as right in the picture grid."""
SHUFFLED = "another row's picture"
MODES = {"shuffled": SHUFFLED, "blank": "blank picture", "mismatched": "picture of another category"}
_MOST_CURVES = 12


@dataclass(frozen=True)
class Cell:
    """One figure of a table."""

    text: str
    note: str = ""
    picture: str = ""
    best: bool = False


def svg(text: str) -> Markup:
    """A figure of ours, whose foreign texts are escaped already."""
    return Markup(text)  # noqa: S704 - figures.py escapes every text it takes


def data_uri(jpeg: bytes | None) -> str:
    """A picture within the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""


def tiles(run: RunData) -> list[dict[str, str]]:
    """The figures at the top, each with its interval and what becomes of it with another row's picture."""
    aliases = list(run.scores.get("aliases", {}).values())
    found = []
    for name in metric_names(run.scores):
        field, metric = split_name(name, aliases)
        if metric in TILES and run.scores[name] is not None:
            ends = run.scores.get("intervals", {}).get(name)
            swapped = run.scores.get("shuffled", {}).get(name)
            found.append(
                {
                    "label": f"{field} {EXPLAINED[metric][0]}",
                    "value": written(metric, run.scores[name]),
                    "interval": f"{written(metric, ends[0])} to {written(metric, ends[1])}" if ends else "",
                    "swapped": written(metric, swapped) if swapped is not None else "",
                }
            )
    return found


def verdict(run: RunData) -> dict[str, Any]:
    """``uses_image``, ``beats`` (field -> true, false, none) and sentences; what is known where none was stored."""
    known = run.scores.get("verdict")
    if known:
        return {"uses_image": known["uses_image"], "beats": known["beats_baselines"], "lines": known["lines"]}
    lines = []
    if run.scores:
        lines.append("Neither a grounding certificate nor baselines were computed for this run.")
        lines += [
            f"{tile['label']}: {tile['value']} with the row's own picture, {tile['swapped']} with {SHUFFLED}."
            for tile in tiles(run)
            if tile["swapped"]
        ]
    return {"uses_image": None, "beats": {}, "lines": lines}


def metric_table(run: RunData) -> dict[str, Any]:
    """Every figure: with its own pictures and interval, with other pictures, before, and the baselines."""
    columns = _columns(run.scores)
    rows = []
    for name in metric_names(run.scores):
        field, metric = split_name(name, run.scores.get("aliases", {}).values())
        label, about, _ = EXPLAINED[metric]
        cells = [_own(run.scores, name, metric)]
        cells += [Cell(written(metric, column.get(name))) if name in column else Cell("") for _, column in columns]
        rows.append({"field": field or "answer", "label": label, "about": about, "cells": cells})
    return {"columns": ["its own picture", *(title for title, _ in columns)], "rows": rows}


def _columns(scores: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = [(title, scores[mode]) for mode, title in MODES.items() if mode in scores]
    found += [(title, scores[key]) for key, title in (("before", "before fine-tuning"),) if key in scores]
    found += [(name, column) for name, column in scores.get("baselines", {}).items()]
    found += [("teacher-forced *", scores["teacher_forced"])] if "teacher_forced" in scores else []
    return found


def _own(scores: Mapping[str, Any], name: str, metric: str) -> Cell:
    ends = scores.get("intervals", {}).get(name)
    if not ends or scores[name] is None:
        return Cell(written(metric, scores[name]))
    share = not metric.startswith(("mae", "rmsle", "r2"))
    scale = (0.0, max(1.0, ends[1])) if share else (min(0.0, ends[0]), max(ends[1] * 1.25, 1e-9))
    note = f"{written(metric, ends[0])} to {written(metric, ends[1])}"
    return Cell(written(metric, scores[name]), note, svg(figures.whisker(scores[name], ends[0], ends[1], scale)))


def comparison(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """Every figure of several runs side by side, the best of each line marked."""
    names = list(dict.fromkeys(name for run in runs for name in metric_names(run.scores)))
    rows = []
    for name in names:
        aliases = [alias for run in runs for alias in run.scores.get("aliases", {}).values()]
        field, metric = split_name(name, aliases)
        values = [run.scores.get(name) for run in runs]
        known = [value for value in values if value is not None]
        best = (max if EXPLAINED[metric][2] else min)(known) if len(set(known)) > 1 else None
        cells = []
        for run, value in zip(runs, values, strict=True):
            ends = run.scores.get("intervals", {}).get(name)
            note = f"{written(metric, ends[0])} to {written(metric, ends[1])}" if ends else ""
            cells.append(Cell(written(metric, value), note, best=value is not None and value == best))
        rows.append({"field": field or "answer", "label": EXPLAINED[metric][0], "cells": cells})
    return rows


def curve_figures(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """One figure a metric, one line a run; train and eval of a metric share a figure for a single run."""
    groups: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for run in runs:
        for name, points in run.curves.items():
            title, part = _curve_name(name)
            line = (part or name) if len(runs) == 1 else f"{run.name} {part}".strip()
            groups.setdefault(title, {})[line] = points
    order = sorted(groups, key=lambda title: ("loss" not in title, title))
    drawn = []
    for title in order[:_MOST_CURVES]:
        picture = figures.curves(groups[title], "step", title)
        if picture:
            drawn.append({"title": title, "svg": svg(picture), "lines": list(groups[title])})
    return drawn


def _curve_name(name: str) -> tuple[str, str]:
    for part in ("train", "eval"):
        if name.startswith(f"{part}/"):
            return name[len(part) + 1 :], part
    return name, ""


def cards(run: RunData) -> list[dict[str, Any]]:
    """Pictures with truth and answer; each belongs to the worst, to the random sample, to both or to neither."""
    if run.task is None:
        return []
    worst = {shown.row for shown in run.pictures[:GRID]}
    drawn = sorted(
        (shown for shown in run.pictures if shown.drawn), key=lambda shown: hashed_fraction(1, "grid", shown.row)
    )
    random = {shown.row for shown in drawn[:GRID]}
    category = next(iter(run.task.of_kind("category")), None)
    return [
        {
            "key": shown.key,
            "image": data_uri(shown.thumbnail),
            "category": str(shown.truth[category]) if category else "",
            "sets": " ".join(name for name, rows in (("worst", worst), ("random", random)) if shown.row in rows),
            "wrong": [line["field"] for line in card_lines(run.task, shown) if not line["right"]],
            "lines": card_lines(run.task, shown),
            "unread": shown.reason,
            "answer": shown.answer,
        }
        for shown in run.pictures
    ]


def card_lines(task: Task, shown: Shown) -> list[dict[str, Any]]:
    """Each field with truth, answer and whether it is right; a number is right within 10 %."""
    lines = []
    for name in task.names:
        truth = task.fields[name].write(shown.truth[name])
        answer = task.fields[name].write(shown.predicted[name]) if shown.predicted else None
        right, off = truth == answer, ""
        if shown.predicted and not right and task.fields[name].kind == "number" and shown.truth[name]:
            gap = (shown.predicted[name] - shown.truth[name]) / abs(shown.truth[name])
            right, off = abs(gap) <= NEAR, f"{100 * gap:+.0f}\u00a0%"
        lines.append({"field": name, "truth": truth, "answer": answer, "right": right, "off": off})
    return lines


def examples(run: RunData) -> list[dict[str, Any]]:
    """Products with their answers at each step."""
    return [
        {"key": row.key, "image": data_uri(row.image), "truth": row.truth, "answers": _answers(row, run.steps)}
        for row in run.examples
    ]


def _answers(row: ExampleRow, steps: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"step": step, "text": row.answers.get(step), "right": row.answers.get(step) == row.truth} for step in steps
    ]


def number_figures(run: RunData) -> list[dict[str, Any]]:
    """Scatter and error by band of each number field."""
    aliases = run.scores.get("aliases", {})
    found = []
    for name, pairs in run.pairs.items():
        alias = aliases.get(name, name)
        bands = run.scores.get("by_band", {}).get(alias, [])
        values = [
            (
                f"{number(band['low'])} – {number(band['high'])}",
                _hundredfold(band.get(f"{alias}_median_ape")),
                band["rows"],
            )
            for band in bands
        ]
        found.append(
            {
                "name": alias,
                "shown": len(pairs),
                "scatter": svg(figures.scatter(pairs, alias)),
                "bands": svg(figures.bars(values, "median error in %")),
            }
        )
    return found


def _hundredfold(value: float | None) -> float | None:
    return None if value is None else 100 * value


def category_table(run: RunData) -> dict[str, Any]:
    """Main figures of each category, most frequent first."""
    lines = run.scores.get("by_category", [])
    aliases = run.scores.get("aliases", {}).values()
    names = [name for name in (lines[0] if lines else {}) if split_name(name, aliases)[1] in EXPLAINED]
    titles = [f"{split_name(name, aliases)[0]} {EXPLAINED[split_name(name, aliases)[1]][0]}" for name in names]
    rows = [
        [line["category"], str(line["rows"]), *(written(split_name(name, aliases)[1], line[name]) for name in names)]
        for line in lines
    ]
    return {"columns": ["category", "rows", *titles], "rows": rows}


def confusions(run: RunData) -> list[dict[str, Any]]:
    """Counts of truth and answer, each cell with its share of the row as a depth of colour."""
    found = []
    for name, table in run.scores.get("confusion", {}).items():
        rows = []
        for label, counts in zip(table["labels"], table["counts"], strict=True):
            total = sum(counts) or 1
            cells = [
                {"count": count, "share": round(count / total, 3), "right": label == answer}
                for answer, count in zip(table["answers"], counts, strict=True)
            ]
            rows.append({"label": label, "cells": cells})
        found.append({"name": name, "answers": table["answers"], "rows": rows})
    return found


def facts(run: RunData) -> list[dict[str, Any]]:
    """What was trained, on what, where, and at what cost."""
    groups = [
        ("Recipe", run.config),
        ("Data set", {name: value for name, value in run.card.items() if name != "format"}),
        ("Cost and result of training", run.summary),
        ("Environment", run.environment),
        ("Rows left out", run.scores.get("left_out", {})),
        ("Why answers could not be read", run.scores.get("reasons", {})),
    ]
    return [{"title": title, "rows": list(flat(values))} for title, values in groups if values]


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as lines ``train.lr``, ``0.001``."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            text = " ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{prefix}{name}", "–" if text is None else str(text)


def about(run: RunData) -> str:
    """One line under the name of a run."""
    parts = []
    if run.scores.get("rows"):
        parts.append(f"{run.scores['rows']:,} rows evaluated")
    if run.scores.get("parse_rate") is not None:
        parts.append(f"{percent(run.scores['parse_rate'])} of the answers could be read")
    if run.card.get("rows"):
        parts.append(f"data set of {run.card['rows']:,} rows")
    return " · ".join(parts)
