"""What the person who decides sees first: what was trained on what, the verdict, four figures, twelve images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phisight.core.seeding import hashed_fraction
from phisight.report.collect import RunData, Shown
from phisight.report.format import EXPLAINED, formatted, metric_names, split_name

FIGURES = 4
OF_EACH = 4
"""Best, typical and worst images on the first screen."""
_ORDER = ("accuracy", "exact", "entry_f1", "within_10", "median_ape", "token_f1", "mae")
"""Metrics by how much they say to somebody who decides."""
_LABELS = {"median_ape": "{field}: half are closer than", "mae": "{field}: off by, on average"}
_METHODS = {
    "full": "all weights trained",
    "lora": "LoRA",
    "dora": "DoRA",
    "qlora": "QLoRA",
    "projector": "image projection trained",
}


def title(run: RunData) -> str:
    """The page's title: model, data set and date, not the name of a folder alone."""
    parts = [_model(run), f"on {_data(run)}" if _data(run) else "", _date(run)]
    known = [" ".join(part for part in parts[:2] if part), parts[2]]
    about = ", ".join(part for part in known if part)
    return f"{run.name}: {about}" if about else run.name


def about(run: RunData) -> list[tuple[str, str]]:
    """What was trained on what, where it was tested, and when."""
    scores, card = run.scores, run.card
    method = _METHODS.get(str(run.config.get("train", {}).get("method", "")), "")
    trained = run.summary.get("steps")
    rows = card.get("rows")
    tested = f"{scores['rows']:,} rows" if scores.get("rows") else ""
    if tested and scores.get("groups"):
        tested += f", {scores['groups']:,} products"
    split = scores.get("evaluation", {}).get("split") or run.config.get("evaluate", {}).get("split", "")
    found = [
        ("Model", ", ".join(part for part in (_model(run), method) if part)),
        ("Data set", f"{_data(run)}{f' ({rows:,} rows)' if rows else ''}".strip()),
        ("Training", f"{int(float(trained)):,} steps" if trained else ""),
        ("Tested on", f"{tested}{f' of the {split} split' if split else ''}" if tested else ""),
        ("Date", _date(run)),
    ]
    return [(name, text) for name, text in found if text]


def _model(run: RunData) -> str:
    name = str(run.config.get("model", {}).get("name", "") or run.scores.get("evaluation", {}).get("model", ""))
    return "tiny Phi-3-Vision" if name == "tiny" else Path(name).name if name else ""


def _data(run: RunData) -> str:
    if run.card.get("source", {}).get("kind") == "sample":
        return "the sample catalogue"
    path = run.scores.get("evaluation", {}).get("data") or run.config.get("data", {}).get("path", "")
    return Path(str(path)).name if path else ""


def _date(run: RunData) -> str:
    known = run.scores.get("evaluation", {}).get("date") or run.environment.get("date") or run.environment.get("time")
    return str(known)[:10] if known else ""


def chips(run: RunData, verdict: Mapping[str, Any]) -> list[dict[str, str]]:
    """The verdict in a few words each."""
    conclusion = run.scores.get("grounding", {}).get("conclusion")
    uses = verdict["uses_image"]
    named = {
        "shape only": ("bad", "✗ reads the image's shape only"),
        "too few": ("open", "? too few products to tell whether it looks at the image"),
    }
    plain = {
        True: ("good", "✓ looks at the image"),
        False: ("bad", "✗ not shown to look at the image"),
        None: ("open", "? whether it looks at the image was not tested"),
    }
    found = [named.get(str(conclusion), plain[uses])]
    for field, beats in verdict["beats"].items():
        found.append(
            {
                True: ("good", f"✓ {field}: better than simple methods"),
                False: ("bad", f"✗ {field}: no better than a simple method"),
                None: ("open", f"? {field}: compared with nothing"),
            }[beats]
        )
    return [{"kind": kind, "text": text} for kind, text in found]


def lead(run: RunData, verdict: Mapping[str, Any]) -> str:
    """The verdict in a few sentences for somebody who knows no statistics; empty without an evaluation."""
    if not run.scores.get("grounding"):
        return ""
    better = [field for field, beats in verdict["beats"].items() if beats]
    others = [field for field, beats in verdict["beats"].items() if beats is False]
    parts = []
    if better:
        parts.append(f"{_list(better)} {'is' if len(better) == 1 else 'are'} answered better than by simple methods")
    if others:
        named = "a simple method answers" if len(others) == 1 else "simple methods answer"
        parts.append(f"{named} {_list(others)} just as well")
    second = "; ".join(parts)
    read = "Every answer could be read." if run.scores.get("parse_rate") == 1 else ""
    sentences = [_looks(run, verdict), f"{second[:1].upper()}{second[1:]}." if second else "", read]
    return " ".join(sentence for sentence in sentences if sentence)


def _looks(run: RunData, verdict: Mapping[str, Any]) -> str:
    """Whether the model looks at the image, with what another product's image does to its answers."""
    grounding = run.scores["grounding"]
    conclusion, groups = grounding.get("conclusion"), grounding.get("groups")
    if conclusion == "too few":
        return f"Too few products{f' ({groups})' if groups else ''} to tell whether the model looks at the image."
    if conclusion == "shape only":
        return (
            "The model reads the image's shape and no more: shown another product's image of the same shape, it "
            "answers just as well."
        )
    if verdict["uses_image"]:
        shares = [
            tile for tile in figures(run) if tile["swapped"] and tile["label"].endswith((" right", " within 10 %"))
        ]
        best = min(shares, key=lambda tile: "exactly" in tile["label"], default=None)
        changes = f": {best['label']} in {best['swapped']} of the rows instead of {best['value']}" if best else ""
        return f"The model looks at the image. Shown another product's image, its answers become worse{changes}."
    if verdict["uses_image"] is False:
        return (
            "The model has not been shown to look at the image: shown another product's image, it answers just as well."
        )
    line = str(grounding.get("line", ""))
    why = line.partition("(")[2].rstrip(")")
    return f"Whether the model looks at the image was not tested{f': {why}' if why else ''}."


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def figures(run: RunData) -> list[dict[str, str]]:
    """At most four figures, each with its interval, with another product's image, and of the base model."""
    aliases = list(run.scores.get("aliases", {}).values())
    known = [(name, *split_name(name, aliases)) for name in metric_names(run.scores)]
    ranked = sorted(
        (one for one in known if one[2] in _ORDER), key=lambda one: (_ORDER.index(one[2]), aliases.index(one[1]))
    )
    chosen = ranked[:FIGURES]
    return [_figure(run.scores, *one) for one in sorted(chosen, key=lambda one: aliases.index(one[1]))]


def _figure(scores: Mapping[str, Any], name: str, field: str, metric: str) -> dict[str, str]:
    ends = scores.get("intervals", {}).get(name)
    swapped, base = (scores.get(key, {}).get(name) for key in ("shuffled", "base_model"))
    value = scores[name]
    return {
        "label": _LABELS.get(metric, "{field} {metric}").format(field=field, metric=EXPLAINED[metric][0]),
        "value": formatted(metric, value) if value is not None else "none read",
        "interval": f"{formatted(metric, ends[0])} to {formatted(metric, ends[1])}" if ends else "",
        "swapped": formatted(metric, swapped) if swapped is not None else "",
        "base": formatted(metric, base) if base is not None else "",
    }


def examples(run: RunData) -> list[dict[str, Any]]:
    """Rows of the random sample: the best, the typical (around the median error) and the worst ones, none twice.

    Each shows another product, as far as there are so many.
    """
    drawn = sorted(
        (one for one in run.shown if one.drawn), key=lambda one: (one.error, hashed_fraction(2, "top", one.row))
    )
    if len(drawn) < 3 * OF_EACH:
        drawn = sorted(run.shown, key=lambda one: (one.error, one.row))
    middle = max(OF_EACH, len(drawn) // 2 - OF_EACH // 2)
    taken: list[Shown] = []
    worst = _some(sorted(run.shown, key=lambda one: (-one.error, one.row)), taken)
    best = _some(drawn, taken)
    typical = _some(drawn[middle:], taken)
    return [
        {"title": name, "rows": rows} for name, rows in (("Best", best), ("Typical", typical), ("Worst", worst)) if rows
    ]


def _some(ordered: Sequence[Shown], taken: list[Shown]) -> list[Shown]:
    """The first rows of products that are not among ``taken`` yet, then of others; they are taken then."""
    groups, rows = {one.group or one.key for one in taken}, {one.row for one in taken}
    found: list[Shown] = []
    for again in (False, True):
        for one in ordered:
            if len(found) < OF_EACH and one.row not in rows and (again or (one.group or one.key) not in groups):
                found.append(one)
                rows.add(one.row)
                groups.add(one.group or one.key)
    taken += found
    return sorted(found, key=ordered.index)


def remarks(run: RunData, verdict: Mapping[str, Any]) -> list[str]:
    """What else somebody who decides must know: what could not be read, where the numbers come from, warnings."""
    return _lines(run, verdict, tested=False)


def tests(run: RunData, verdict: Mapping[str, Any]) -> list[str]:
    """What was tested and found, with the names of statistics: for those who want to know."""
    return _lines(run, verdict, tested=True) + list(run.scores.get("grounding", {}).get("tests", []))


def _lines(run: RunData, verdict: Mapping[str, Any], *, tested: bool) -> list[str]:
    """Lines of the verdict, as sentences: those about a test, or the others."""
    fields = run.scores.get("aliases", {}).values()
    of_tests = ("uses the image", "fine-tuning, against", *(f"{field}: " for field in fields))
    return [line[:1].upper() + line[1:] for line in verdict["lines"] if line.startswith(of_tests) is tested]
