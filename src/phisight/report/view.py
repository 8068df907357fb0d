"""What the page shows of one run, as plain values: the template only lays them out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phisight.report import charts
from phisight.report.collect import RunData
from phisight.report.figure_tables import SHUFFLED
from phisight.report.first_screen import figures
from phisight.report.format import EXPLAINED, SHARES, TILES, number, percent, split_name

_SILENT_CURVES = ("epoch", "data_wait", "padding")
"""The step over again, and what only matters to whoever tunes the training; metrics.jsonl holds it."""
_COLOR = {"train": 0, "eval": 1}
"""Fixed colors: training is blue and validation orange in every report."""
_PARTS = {"train": "training", "eval": "validation"}
_QUIET_CURVES = ("grad_norm", "learning_rate", "lr")
"""Curves that say how training went, not how good the model is: they come last."""


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
            for tile in figures(run)
            if tile["swapped"]
        ]
    return {"uses_image": None, "beats": {}, "lines": lines}


def curve_figures(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """One figure a metric, one line a run; train and eval of a metric share a figure for a single run.

    Curves that never change say nothing and are left out; shares and percentage errors are drawn in percent.
    """
    groups: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for run in runs:
        for name, points in run.curves.items():
            title, part = _curve_name(name)
            if title in _SILENT_CURVES or (len({value for _, value in points}) == 1 and len(points) > 1):
                continue
            line = (part or name) if len(runs) == 1 else f"{run.name} {part}".strip()
            groups.setdefault(title, {})[line] = _in_percent(title, points)
    drawn = []
    for title in sorted(groups, key=_curve_rank):
        lines = sorted(groups[title], key=lambda line: (line != "train", line != "eval"))
        colors = [_COLOR.get(line, index) for index, line in enumerate(lines)]
        chart = charts.curves({line: groups[title][line] for line in lines}, "step", title, colors)
        if chart:
            keys = [{"name": _PARTS.get(line, line), "color": color} for line, color in zip(lines, colors, strict=True)]
            drawn.append(
                {"title": _curve_title(title, runs), "svg": charts.svg(chart), "lines": keys, "main": _is_main(title)}
            )
    return drawn


def _in_percent(title: str, points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if not title.endswith(SHARES):
        return points
    return [(step, 100 * value) for step, value in points]


def _is_main(title: str) -> bool:
    return _curve_rank(title)[0] < 2


def _curve_rank(title: str) -> tuple[int, str]:
    """The loss, then the figures that stand at the top of the page, then the others, then how training went."""
    kinds = ("loss" in title, title.endswith(tuple(f"_{name}" for name in TILES)), title not in _QUIET_CURVES)
    return next((place for place, known in enumerate(kinds) if known), len(kinds)), title


def _curve_title(title: str, runs: Sequence[RunData]) -> str:
    """``category_accuracy`` as the tiles call it; other names as they were logged."""
    field, metric = split_name(title, {alias for run in runs for alias in run.scores.get("aliases", {}).values()})
    if metric not in EXPLAINED:
        return title
    unit = " (%)" if title.endswith(SHARES) and "%" not in EXPLAINED[metric][0] else ""
    return f"{field} {EXPLAINED[metric][0]}{unit}".strip()


def _curve_name(name: str) -> tuple[str, str]:
    for part in ("train", "eval"):
        if name.startswith(f"{part}/"):
            return name[len(part) + 1 :], part
    return name, ""


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
    """What the intervals promise and what they hold; or why there are none."""
    if reason := run.scores.get("not_checked", {}).get("prediction_intervals"):
        return f"no intervals: {reason}."
    one = run.scores.get("prediction_intervals", {}).get(alias)
    if not one or one["coverage"] is None:
        return ""
    width = f"at most {number(one['radius'])} away from"
    if one["logarithmic"]:
        below, above = (percent(abs(math.expm1(sign * one["radius"]))) for sign in (-1, 1))
        width = f"at most {below} below or {above} above"
    return (
        f"the shaded band holds the answers whose range contains the truth. It is made so that {percent(one['level'])} "
        f"of the true values lie {width} the answer, and of these {one['rows']} answers {percent(one['coverage'])} do "
        f"(measured on {one['fitted_on']} validation rows)."
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
        ("Not checked", run.scores.get("not_checked", {})),
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
