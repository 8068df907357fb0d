"""Figures in the sentences of certificate and verdict."""

from __future__ import annotations

_IN_OWN_UNIT = ("mae", "mae_penalised", "rmsle", "r2")
_TITLES = {"mae_penalised": "mean error", "accuracy": "right", "exact": "exactly right"}


def told(metric: str, value: float) -> str:
    """A figure for readers: shares in percent, others in the field's own unit, no exponent for everyday sizes."""
    if metric in _IN_OWN_UNIT:
        return f"{value:,.0f}" if 100 <= abs(value) < 1e9 else f"{value:.3g}"
    return f"{100 * value:.1f}\u00a0%"


def change(name: str, before: float, after: float) -> str:
    """``category_accuracy``, 0.99, 0.085 -> "category right from 99.0 % to 8.5 %"."""
    for metric, title in _TITLES.items():
        if name.endswith(f"_{metric}"):
            field = name.removesuffix(f"_{metric}")
            return f"{field} {title} from {told(metric, before)} to {told(metric, after)}"
    return f"{name} from {before:.3g} to {after:.3g}"
