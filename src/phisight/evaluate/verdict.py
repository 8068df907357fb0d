"""The verdict: what the figures say, in sentences a reader who knows no statistics can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phisight.core.kinds import KINDS, NO_SHARES

_TITLES = {
    "mae_penalized": "mean error",
    "mae": "mean error",
    "accuracy": "right",
    "token_f1": "words right",
    "exact": "exactly right",
    **{
        kind.deciding: figure.label
        for kind in KINDS.values()
        for figure in kind.figures
        if figure.name == kind.deciding
    },
}


def verdict_of(scores: Mapping[str, Any]) -> dict[str, Any]:
    """``uses_image``, ``beats_baselines`` (by field; none where no baseline was computed) and ``lines``.

    Reads ``grounding``, ``baselines`` and ``base_model`` of scores.json; what is missing there is named as not checked.
    """
    lines = [scores["grounding"]["line"] if "grounding" in scores else "uses the image: not checked"]
    fields = list(scores.get("aliases", {}).values())
    beats = {field: _field(scores.get("baselines", {}), field, lines) for field in fields}
    lines += _base_model(scores) + _numbers(scores) + _unread(scores) + list(scores.get("warnings", ()))
    return {
        "uses_image": scores.get("grounding", {}).get("uses_image"),
        "beats_baselines": beats,
        "lines": lines,
    }


def _numbers(scores: Mapping[str, Any]) -> list[str]:
    """Which numbers the figures are about, where these are not the digits of the text."""
    strategy = scores.get("numbers", {})
    written = strategy.get("as_written")
    if not written:
        return []
    source = {"head": "the number head", "expected": "the median of the model's digit probabilities"}
    parts = [
        change_text(name, scores[name], written[name])
        for name in (f"{field}_mae" for field in scores.get("aliases", {}).values())
        if scores.get(name) is not None and written.get(name) is not None
    ]
    changes = f" ({'; '.join(parts)})" if parts else ""
    return [
        f"numbers come from {source[strategy['strategy']]}; a program that knows nothing of it reads the digits of the "
        f"text{changes}"
    ]


def _unread(scores: Mapping[str, Any]) -> list[str]:
    if scores.get("parse_rate", 1) >= 1:
        return []
    reasons = [f"{reason} ({rows})" for reason, rows in list(scores.get("reasons", {}).items())[:2]]
    why = f": {', '.join(reasons)}" if reasons else ""
    return [f"{100 * (1 - scores['parse_rate']):.1f} % of the answers could not be read and count as wrong{why}"]


def _base_model(scores: Mapping[str, Any]) -> list[str]:
    """What fine-tuning brought, field by field, in one sentence; or why nobody knows."""
    if "base_model" not in scores:
        why = scores.get("not_checked", {}).get("base_model")
        return [f"before fine-tuning: not checked ({why})"] if why else []
    base = scores["base_model"]
    named = {True: "better", None: "no different", False: "worse"}
    parts = [
        f"{field} is {named[one['better']]}"
        + (f" ({change_text(one['metric'], one['right'], one['left'])})" if one["better"] is not None else "")
        for field, one in base["tuned_against"].items()
        if one
    ]
    heading = f"fine-tuning, against {base['about']} on {base['rows']} rows (paired, over products)"
    return [f"{heading}: {'; '.join(parts)}"] if parts else []


def _field(baselines: Mapping[str, Any], field: str, lines: list[str]) -> bool | None:
    against = {name: one["model_against"][field] for name, one in baselines.items() if one["model_against"].get(field)}
    if not against:
        lines.append(f"{field}: not compared with any baseline")
        return None
    named = {True: "better than", None: "not distinguishable from", False: "worse than"}
    parts = []
    for better, phrase in named.items():
        names = [name for name, one in against.items() if one["better"] is better]
        if names:
            parts.append(f"{phrase} {', '.join(names)}")
    lines.append(f"{field}: {'; '.join(parts)} (paired, over products)")
    return all(one["better"] is True for one in against.values())


def figure_text(metric: str, value: float) -> str:
    """A figure as text: shares in percent, others in the field's own unit, no exponent for everyday sizes."""
    if metric in NO_SHARES:
        return f"{value:,.0f}" if 100 <= abs(value) < 1e9 else f"{value:.3g}"
    return f"{100 * value:.1f}\u00a0%"


def change_text(name: str, before: float, after: float) -> str:
    """``category_accuracy``, 0.99, 0.085 -> "category right from 99.0 % to 8.5 %"."""
    for metric, title in _TITLES.items():
        if name.endswith(f"_{metric}"):
            field = name.removesuffix(f"_{metric}")
            return f"{field} {title} from {figure_text(metric, before)} to {figure_text(metric, after)}"
    return f"{name} from {before:.3g} to {after:.3g}"
