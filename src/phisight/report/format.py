"""Figures in words: what a metric is called, what it says, how its value is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from phisight.core.kinds import KINDS, NO_SHARES

EXPLAINED: dict[str, tuple[str, str, bool]] = {
    "parse_rate": ("answers that could be read", "share of the answers written in the task's form", True),
    "accuracy": ("right", "share of the rows with the right value", True),
    "macro_f1": ("macro F1", "precision and recall in one, every category counting the same", True),
    "exact": ("exactly right", "share of the rows with every letter right", True),
    "token_f1": ("word overlap (F1)", "words shared by truth and answer", True),
    "edit_similarity": ("edit similarity", "1 is equal, 0 shares no letter", True),
    "mae": ("mean error", "average distance from the truth, in the field's own unit", False),
    "median_ape": ("median error in %", "half of the answers are closer than this", False),
    "mape": ("mean error in %", "a few far-off answers weigh heavily", False),
    "smape": ("symmetric error in %", "from 0 to 200 %", False),
    "rmsle": ("log error (RMSLE)", "0.1 is about 10 % off", False),
    "r2": ("explained variance (R²)", "1 is perfect, 0 is no better than the mean", True),
    "within_10": ("within 10 %", "share of the rows at most 10 % off", True),
    "within_25": ("within 25 %", "share of the rows at most 25 % off", True),
    "answered": ("answered", "share of the rows with a number to compare", True),
    "mae_penalized": ("mean error, unread penalized", "an unread answer counts as 0 or the median, if worse", False),
    "median_ape_penalized": ("median error in %, unread penalized", "an unread answer as 0 or the median", False),
    "smape_penalized": ("symmetric error in %, unread penalized", "an unread answer as 0 or the median", False),
    "invented": ("invented", "share of the rows without a value whose answer has one", False),
    "missed": ("missed", "share of the rows with a value whose answer has none", False),
    "mae_penalised": ("mean error, unread = 0", "as the mean error, an unread answer counting as 0", False),
    "median_ape_penalised": ("median error in %, unread = 0", "an unread answer counting as 0", False),
    "smape_penalised": ("symmetric error in %, unread = 0", "an unread answer counting as 0", False),
}
"""Metric -> (label, what it says, higher is better)."""
for _kind in KINDS.values():
    for _figure in _kind.figures:
        EXPLAINED.setdefault(_figure.name, (_figure.label, _figure.about, _figure.higher_is_better))

TILES = ("accuracy", "exact", "within_10", "median_ape", "mae")
"""The metrics whose curves are seen at once."""
SHARES = tuple(f"_{name}" for name in EXPLAINED if not name.startswith((*NO_SHARES, "parse_rate")))
"""How names of figures end that are written in percent."""


def split_name(name: str, aliases: Iterable[str]) -> tuple[str, str]:
    """``price_mae`` -> (price, mae); the field is empty for a figure of the whole answer."""
    for alias in sorted(aliases, key=len, reverse=True):
        if name.startswith(f"{alias}_") and name[len(alias) + 1 :] in EXPLAINED:
            return alias, name[len(alias) + 1 :]
    return "", name


def metric_names(scores: Mapping[str, Any]) -> list[str]:
    """Names of the figures in scores.json, in its order."""
    aliases = list(scores.get("aliases", {}).values())
    return [
        name
        for name, value in scores.items()
        if split_name(name, aliases)[1] in EXPLAINED and (value is None or isinstance(value, (int, float)))
    ]


def formatted(metric: str, value: float | None) -> str:
    """A figure for people: shares and percentage errors in %, others with three digits that count."""
    if value is None:
        return "–"
    return percent(value) if is_share(metric) else number(value)


def is_share(metric: str) -> bool:
    """Whether a metric's values are fractions; by how its name begins, as earlier versions wrote mae_penalised."""
    return not metric.startswith(NO_SHARES)


def percent(value: float) -> str:
    """0.1234 -> 12.3 % (with a space that does not break)."""
    return f"{100 * value:.1f}\u00a0%"


def number(value: float) -> str:
    """Three digits that count, no exponent for everyday sizes."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        return f"{value:.2e}"
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"
