"""Which models can be scheduled: each row needs its own mask, its own position and its own rotary factors."""

from __future__ import annotations

from typing import Any

from phisight.model.configuration import Phi3VConfig

ATTENTION = ("sdpa", "eager")
"""Attention back ends that take a mask for each row."""


def unschedulable(model: Any) -> str:
    """Why a model cannot be scheduled, behind "continuous batching"; empty where it can."""
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if config is None or kind != Phi3VConfig.model_type:
        return f"needs a {Phi3VConfig.model_type} model, and this one is {kind}"
    if config.rope_switch == "batch":
        return "needs rope_switch row: batch looks at the longest row of all"
    if config._attn_implementation not in ATTENTION:
        return f"needs attention {' or '.join(ATTENTION)}, and this model has {config._attn_implementation}"
    return ""
