"""Where the model fails, and what to do next: sentences that follow from the figures."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from phisight.report.collect import RunData, Shown
from phisight.report.format import number, percent

WORST = 5
"""Categories and confusions that are shown."""
_FEW_ROWS = 3
"""A category with fewer rows says nothing about itself."""
_CLEARLY = 1.5
"""Times the middle of the other bands from which a price band counts as bad."""


def worst_categories(run: RunData) -> list[dict[str, Any]]:
    """Categories by the share of right answers, lowest first; only those that are not all right."""
    alias = _alias_of(run, "category")
    key = f"{alias}_accuracy"
    known = [
        line
        for line in run.scores.get("by_category", [])
        if line.get(key) is not None and line["rows"] >= _FEW_ROWS and line[key] < 1
    ]
    known.sort(key=lambda line: (line[key], -line["rows"]))
    return [
        {"name": line["category"], "share": line[key], "text": percent(line[key]), "rows": line["rows"]}
        for line in known[:WORST]
    ]


def confused_pairs(run: RunData) -> list[dict[str, Any]]:
    """The most frequent mistakes between two categories, with rows that show them."""
    found = []
    fields = {alias: name for name, alias in run.scores.get("aliases", {}).items()}
    for alias, table in run.scores.get("confusion", {}).items():
        name = fields.get(alias, alias)
        for label, counts in zip(table["labels"], table["counts"], strict=True):
            for answer, count in zip(table["answers"], counts, strict=True):
                if count and answer != label and not answer.startswith("("):
                    rows = [shown for shown in run.shown if _confuses(shown, name, label, answer)]
                    found.append({"truth": label, "answer": answer, "count": count, "rows": rows[:4]})
    return sorted(found, key=lambda one: (-one["count"], one["truth"], one["answer"]))[:WORST]


def _confuses(shown: Shown, name: str, label: str, answer: str) -> bool:
    given = (shown.predicted or {}).get(name)
    return str(shown.truth.get(name)) == label and str(given) == answer


def next_steps(run: RunData) -> list[str]:
    """What to do next, the most useful first; one sentence each."""
    scores = run.scores
    if not scores:
        return []
    found = [
        *_unread(run),
        *_grounding(scores),
        *_category(run),
        *_bands(scores),
        *_baselines(scores),
        *_strategy(scores),
    ]
    return found or ["Nothing stands out: more rows of every kind are the surest way on."]


def _unread(run: RunData) -> list[str]:
    rate, reasons = run.scores.get("parse_rate", 1), run.scores.get("reasons", {})
    if rate is None or rate >= 0.98:
        return []
    if any(reason.startswith("cut at") for reason in reasons):
        limit = run.scores.get("evaluation", {}).get("max_new_tokens", "the limit")
        return [
            f"Raise evaluate.max_new_tokens above {limit}: {percent(1 - rate)} of the answers were cut or unreadable."
        ]
    return [f"Train longer, or evaluate with --constrained: {percent(1 - rate)} of the answers could not be read."]


def _grounding(scores: Mapping[str, Any]) -> list[str]:
    grounding = scores.get("grounding", {})
    conclusion = grounding.get("conclusion")
    if conclusion == "too few":
        return [f"Evaluate more products: {grounding.get('groups', 'so few')} cannot show whether the image is used."]
    if conclusion == "shape only":
        return ["Vary the images' sizes within a category: so far their shape alone gives the answers away."]
    if grounding.get("uses_image") is False:
        return ["Train more steps, or the image projection and tower, too: the answers do not depend on the image yet."]
    return []


def _category(run: RunData) -> list[str]:
    worst = [line for line in worst_categories(run) if line["share"] < 0.8]
    if not worst:
        return []
    named = ", ".join(f"{line['name']} ({line['text']} right of {line['rows']})" for line in worst[:2])
    return [f"Add rows of {named}."]


def _bands(scores: Mapping[str, Any]) -> list[str]:
    found = []
    for alias, bands in scores.get("by_band", {}).items():
        key = f"{alias}_median_ape"
        known = [band for band in bands if band.get(key) is not None]
        if len(known) < 3:
            continue
        worst = max(known, key=lambda band: float(band[key]))
        others = median(float(band[key]) for band in known if band is not worst)
        if worst[key] > _CLEARLY * others:
            where = f"above {number(worst['low'])}" if worst is known[-1] else f"up to {number(worst['high'])}"
            if worst not in (known[0], known[-1]):
                where = f"between {number(worst['low'])} and {number(worst['high'])}"
            found.append(
                f"Add products with a {alias} {where}: half of the answers there are more than {percent(worst[key])} "
                f"off, elsewhere {percent(others)}."
            )
    return found


def _baselines(scores: Mapping[str, Any]) -> list[str]:
    beats = scores.get("verdict", {}).get("beats_baselines", {})
    strategy = scores.get("numbers", {}).get("strategy", "text")
    numbers = {alias for alias in scores.get("by_band", {}) if beats.get(alias) is False}
    found = []
    for alias in sorted(numbers):
        other = "expected" if strategy != "expected" else "head"
        found.append(f"Try train.numbers={other} for {alias}: a simple method answers it just as well.")
    others = [alias for alias, better in beats.items() if better is False and alias not in numbers]
    if others:
        found.append(f"Train longer or on more rows: simple methods answer {' and '.join(others)} just as well.")
    return found


def _strategy(scores: Mapping[str, Any]) -> list[str]:
    written = scores.get("numbers", {}).get("as_written")
    for alias in scores.get("by_band", {}):
        own, plain = scores.get(f"{alias}_mae"), (written or {}).get(f"{alias}_mae")
        if own is not None and plain is not None and plain > 1.1 * own:
            return [
                f"Hand the model over with its number head: programs that read the text alone get a mean {alias} error "
                f"of {number(plain)} instead of {number(own)}."
            ]
    return []


def _alias_of(run: RunData, kind: str) -> str:
    if run.task is None or not run.task.of_kind(kind):
        return kind
    name = run.task.of_kind(kind)[0]
    return str(run.scores.get("aliases", {}).get(name, name))
