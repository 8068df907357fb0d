"""What the page shows of one run, as plain values: the template only lays them out."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phisight.core.seeding import hashed_fraction
from phisight.core.task import Task
from phisight.report import charts
from phisight.report.collect import ExampleRow, RunData, Shown
from phisight.report.figure_tables import SHUFFLED
from phisight.report.format import EXPLAINED, TILES, formatted, metric_names, number, percent, split_name

GRID = 50
"""Images of the two selections that people look at: the worst and a random sample."""
NEAR = 0.10
"""A number this close to the truth passes as right in the image grid."""
FIRST_CURVES = 6
"""Curves that are seen at once; the others are folded."""
_QUIET_CURVES = ("grad_norm", "learning_rate", "lr", "padding")
"""Curves that say how training went, not how good the model is: they come last."""


def data_uri(jpeg: bytes | None) -> str:
    """An image within the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""


def tiles(run: RunData) -> list[dict[str, str]]:
    """The figures at the top, each with its interval, with another row's image, and before fine-tuning."""
    aliases = list(run.scores.get("aliases", {}).values())
    found = []
    for name in metric_names(run.scores):
        field, metric = split_name(name, aliases)
        if metric in TILES and run.scores[name] is not None:
            ends = run.scores.get("intervals", {}).get(name)
            swapped = run.scores.get("shuffled", {}).get(name)
            before = run.scores.get("base_model", {}).get(name)
            found.append(
                {
                    "label": f"{field} {EXPLAINED[metric][0]}",
                    "value": formatted(metric, run.scores[name]),
                    "interval": f"{formatted(metric, ends[0])} to {formatted(metric, ends[1])}" if ends else "",
                    "swapped": formatted(metric, swapped) if swapped is not None else "",
                    "before": formatted(metric, before) if before is not None else "",
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
            f"{tile['label']}: {tile['value']} with the row's own image, {tile['swapped']} with {SHUFFLED}."
            for tile in tiles(run)
            if tile["swapped"]
        ]
    return {"uses_image": None, "beats": {}, "lines": lines}


def curve_figures(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """One figure a metric, one line a run; train and eval of a metric share a figure for a single run."""
    groups: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for run in runs:
        for name, points in run.curves.items():
            title, part = _curve_name(name)
            if title == "epoch":  # the step over again
                continue
            line = (part or name) if len(runs) == 1 else f"{run.name} {part}".strip()
            groups.setdefault(title, {})[line] = points
    drawn = []
    for title in sorted(groups, key=_curve_rank):
        chart = charts.curves(groups[title], "step", title)
        if chart:
            lines = list(groups[title])
            drawn.append({"title": _curve_title(title, runs), "svg": charts.svg(chart), "lines": lines})
    return drawn


def _curve_rank(title: str) -> tuple[int, str]:
    """The loss, then the figures that stand at the top of the page, then the others, then how training went."""
    kinds = ("loss" in title, title.endswith(tuple(f"_{name}" for name in TILES)), title not in _QUIET_CURVES)
    return next((place for place, known in enumerate(kinds) if known), len(kinds)), title


def _curve_title(title: str, runs: Sequence[RunData]) -> str:
    """``category_accuracy`` as the tiles call it; other names as they were logged."""
    field, metric = split_name(title, {alias for run in runs for alias in run.scores.get("aliases", {}).values()})
    return f"{field} {EXPLAINED[metric][0]}".strip() if metric in EXPLAINED else title


def _curve_name(name: str) -> tuple[str, str]:
    for part in ("train", "eval"):
        if name.startswith(f"{part}/"):
            return name[len(part) + 1 :], part
    return name, ""


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
            "key": shown.key,
            "image": data_uri(shown.thumbnail),
            "category": str(shown.truth[category]) if category else "",
            "sets": " ".join(name for name, rows in (("worst", worst), ("random", random)) if shown.row in rows),
            "wrong": [line["field"] for line in card_lines(run.task, shown) if not line["right"]],
            "lines": card_lines(run.task, shown),
            "unread": shown.reason,
            "answer": shown.answer,
        }
        for shown in run.shown
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
        ends = _ends(shown, name)
        lines.append({"field": name, "truth": truth, "answer": answer, "right": right, "off": off, "ends": ends})
    return lines


def _ends(shown: Shown, name: str) -> str:
    """The interval around a number, and whether the row abstains."""
    if not shown.lower or not shown.upper or name not in shown.lower:
        return ""
    ends = f"{number(shown.lower[name])} to {number(shown.upper[name])}"
    return f"{ends}, better no answer" if shown.abstained else ends


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
                "scatter": charts.svg(charts.scatter(pairs, alias, _band(run, alias))),
                "interval": interval_line(run, alias),
                "bands": charts.svg(charts.bars(values, "median error in %")),
            }
        )
    return found


def _band(run: RunData, alias: str) -> tuple[bool, float] | None:
    """Whether the intervals are factors, and their radius; none without intervals."""
    one = run.scores.get("prediction_intervals", {}).get(alias)
    return (one["logarithmic"], one["radius"]) if one else None


def interval_line(run: RunData, alias: str) -> str:
    """What the intervals promise, what they hold, and how many answers had better be none; or why there are none."""
    if reason := run.scores.get("not_checked", {}).get("prediction_intervals"):
        return f"no intervals: {reason}."
    one = run.scores.get("prediction_intervals", {}).get(alias)
    if not one or one["coverage"] is None:
        return ""
    width = f"a factor of {math.exp(one['radius']):.2f}" if one["logarithmic"] else number(one["radius"])
    return (
        f"{percent(one['level'])} of the true values should lie within {width} of the answer (fitted on "
        f"{one['fitted_on']} validation rows); of these {one['rows']} answers {percent(one['coverage'])} do. Mean "
        f"width of an interval: {number(one['mean_width'])}. {percent(one['abstained'])} of the rows abstain. "
        "The shaded band of the figure holds the answers whose interval contains the truth."
    )


def _hundredfold(value: float | None) -> float | None:
    return None if value is None else 100 * value


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
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


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
