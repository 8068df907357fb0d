"""What the page shows of a model's limits: foreign images, refused real ones, and the error by coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phisight.report import charts
from phisight.report.format import percent

Scores = Mapping[str, Any]


def limits(scores: Scores) -> dict[str, Any]:
    """``rows`` (what, share, interval, of), ``chart`` of the error by coverage, and a sentence about it; {} for scores
    that hold none of it.
    """
    found = {"rows": [*_rows(scores)], "chart": _chart(scores), "line": _line(scores)}
    return found if found["rows"] or found["chart"] else {}


def _rows(scores: Scores) -> list[dict[str, str]]:
    foreign, unfamiliar = scores.get("foreign") or {}, scores.get("unfamiliar") or {}
    named = [("foreign images: a value is invented", foreign.get("invented"))]
    named += [(f"· {kind}", one) for kind, one in (foreign.get("by_kind") or {}).items()]
    named += [
        ("real images: refused", scores.get("refused")),
        ("foreign images: unlike the training images", unfamiliar.get("foreign")),
        ("real images: unlike the training images", unfamiliar.get("real")),
    ]
    return [
        {
            "what": what,
            "share": percent(one["share"]),
            "interval": " – ".join(percent(end) for end in one["interval"]),
            "of": f"{one['of']} images",
        }
        for what, one in named
        if one and one["share"] is not None
    ]


def _chart(scores: Scores) -> Any:
    points = (scores.get("risk_coverage") or {}).get("points") or []
    if not points:
        return ""
    lines = {"error": [(100 * one["coverage"], 100 * one["error"]) for one in points]}
    ends = [one for one in points if one["interval"]]
    for place, name in enumerate(("low", "high")):
        lines[name] = [(100 * one["coverage"], 100 * one["interval"][place]) for one in ends]
    drawn = charts.curves(lines, "answers kept, the surest first (%)", "answers with a wrong field (%)", [0, 2, 2])
    return charts.svg(drawn) if drawn else ""


def _line(scores: Scores) -> str:
    known = scores.get("risk_coverage") or {}
    if not known.get("points"):
        return ""
    first, last = known["points"][0], known["points"][-1]
    ends = known["gain"]["interval"]
    tells = "" if ends is None or ends[0] > 0 else " The difference may be chance: confidence tells little here."
    return (
        f"Of all answers {percent(first['error'])} have a wrong field, of the surest half {percent(last['error'])} "
        f"({known['rows']} rows).{tells}"
    )
