"""The tables of the report: every figure, runs side by side, by category, and what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phisight.report.charts import svg, whisker
from phisight.report.collect import RunData
from phisight.report.format import EXPLAINED, formatted, is_share, metric_names, split_name

SHUFFLED = "another product's image"
MODES = {
    "shuffled": SHUFFLED,
    "same_grid": "another image of the same grid",
    "blank": "blank image",
    "mismatched": "image of another category",
}


@dataclass(frozen=True)
class Cell:
    """One figure of a table."""

    text: str
    note: str = ""
    chart: str = ""
    best: bool = False


def metric_table(run: RunData) -> dict[str, Any]:
    """Every figure: with its own images and interval, with other images, before, and the baselines."""
    columns = _columns(run.scores)
    rows = []
    for name in metric_names(run.scores):
        field, metric = split_name(name, run.scores.get("aliases", {}).values())
        label, about, _ = EXPLAINED[metric]
        cells = [_own(run.scores, name, metric)]
        cells += [Cell(formatted(metric, column.get(name))) if name in column else Cell("") for _, column in columns]
        count = run.scores.get("counts", {}).get(name)
        shown = count if count not in (None, run.scores.get("rows")) else None
        rows.append({"field": field or "answer", "label": label, "about": about, "cells": cells, "count": shown})
    return {"columns": ["its own image", *(title for title, _ in columns)], "rows": rows}


def _columns(scores: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = [(title, scores[mode]) for mode, title in MODES.items() if mode in scores]
    found += [(before_title(scores), scores["base_model"])] if "base_model" in scores else []
    found += [(name, column) for name, column in scores.get("baselines", {}).items()]
    found += [("teacher-forced *", scores["teacher_forced"])] if "teacher_forced" in scores else []
    return found


def before_title(scores: Mapping[str, Any]) -> str:
    """What the figures of the base model are called; with their rows, where these are not all."""
    rows = scores["base_model"].get("rows")
    return "before fine-tuning" + (f" ({rows} rows)" if rows and rows != scores.get("rows") else "")


def _own(scores: Mapping[str, Any], name: str, metric: str) -> Cell:
    ends = scores.get("intervals", {}).get(name)
    if not ends or scores[name] is None:
        return Cell(formatted(metric, scores[name]))
    scale = (0.0, max(1.0, ends[1])) if is_share(metric) else (min(0.0, ends[0]), max(ends[1] * 1.25, 1e-9))
    note = f"{formatted(metric, ends[0])} to {formatted(metric, ends[1])}"
    return Cell(formatted(metric, scores[name]), note, svg(whisker(scores[name], ends[0], ends[1], scale)))


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
            note = f"{formatted(metric, ends[0])} to {formatted(metric, ends[1])}" if ends else ""
            cells.append(Cell(formatted(metric, value), note, best=value is not None and value == best))
        rows.append({"field": field or "answer", "label": EXPLAINED[metric][0], "cells": cells})
    return rows


def reliability_table(run: RunData) -> list[dict[str, str]]:
    """What a confidence is worth: for each field and tenth of it the answers, and how many of them were right."""
    return [
        {
            "field": name if place == 0 else "",
            "confidence": f"{row['low']:.0%} to {row['high']:.0%}",
            "rows": str(row["rows"]),
            "mean": f"{row['confidence']:.1%}",
            "right": f"{row['right']:.1%}",
        }
        for name, one in run.scores.get("calibration", {}).items()
        for place, row in enumerate(one["table"])
    ]


def category_table(run: RunData) -> dict[str, Any]:
    """Main figures of each category, most frequent first."""
    lines = run.scores.get("by_category", [])
    aliases = run.scores.get("aliases", {}).values()
    names = [name for name in (lines[0] if lines else {}) if split_name(name, aliases)[1] in EXPLAINED]
    titles = [f"{split_name(name, aliases)[0]} {EXPLAINED[split_name(name, aliases)[1]][0]}" for name in names]
    rows = [
        [line["category"], str(line["rows"]), *(formatted(split_name(name, aliases)[1], line[name]) for name in names)]
        for line in lines
    ]
    return {"columns": ["category", "rows", *titles], "rows": rows}


def confusions(run: RunData) -> list[dict[str, Any]]:
    """Counts of truth and answer, each cell with its share of the row as a depth of color."""
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
