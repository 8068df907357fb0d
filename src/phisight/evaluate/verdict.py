"""The verdict: what the figures say, in sentences a reader who knows no statistics can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phisight.evaluate.words import change


def verdict_of(scores: Mapping[str, Any]) -> dict[str, Any]:
    """``uses_image``, ``beats_baselines`` (by field; none where no baseline was computed) and ``lines``.

    Reads ``grounding``, ``baselines`` and ``before`` of scores.json; what is missing there is named as not checked.
    """
    lines = [scores["grounding"]["line"] if "grounding" in scores else "uses the image: not checked"]
    fields = list(scores.get("aliases", {}).values())
    beats = {field: _field(scores.get("baselines", {}), field, lines) for field in fields}
    lines += _before(scores)
    if scores.get("parse_rate", 1) < 1:
        lines.append(f"{100 * (1 - scores['parse_rate']):.1f} % of the answers could not be read and count as wrong")
    return {
        "uses_image": scores.get("grounding", {}).get("uses_image"),
        "beats_baselines": beats,
        "lines": lines,
    }


def _before(scores: Mapping[str, Any]) -> list[str]:
    """What fine-tuning brought, field by field, in one sentence; or why nobody knows."""
    if "before" not in scores:
        why = scores.get("not_checked", {}).get("before")
        return [f"before fine-tuning: not checked ({why})"] if why else []
    before = scores["before"]
    named = {True: "better", None: "no different", False: "worse"}
    parts = [
        f"{field} is {named[one['better']]} ({change(one['metric'], one['right'], one['left'])})"
        for field, one in before["tuned_against"].items()
        if one
    ]
    told = f"fine-tuning, against {before['about']} on {before['rows']} rows (paired bootstrap, 95 %)"
    return [f"{told}: {'; '.join(parts)}"] if parts else []


def _field(baselines: Mapping[str, Any], field: str, lines: list[str]) -> bool | None:
    against = {name: one["model_against"][field] for name, one in baselines.items() if one["model_against"].get(field)}
    if not against:
        lines.append(f"{field}: not compared with any baseline")
        return None
    named = {True: "better than", None: "not distinguishable from", False: "worse than"}
    parts = []
    for outcome, words in named.items():
        names = [name for name, one in against.items() if one["better"] is outcome]
        if names:
            parts.append(f"{words} {', '.join(names)}")
    lines.append(f"{field}: {'; '.join(parts)} (paired bootstrap, 95 %)")
    return all(one["better"] is True for one in against.values())
