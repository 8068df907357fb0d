"""Sizes a model's ``config.json`` may have: checked before a library allocates or loops by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from phisight.core.errors import CheckpointError
from phisight.core.read_json import read_object

CONFIG = "config.json"
LARGEST = {
    "hidden_size": 65_536,
    "intermediate_size": 1_000_000,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 1_024,
    "num_key_value_heads": 1_024,
    "vocab_size": 10_000_000,
    "max_position_embeddings": 100_000_000,
    "original_max_position_embeddings": 100_000_000,
    "image_size": 16_384,
    "patch_size": 1_024,
    "projection_dim": 65_536,
}
"""The largest value of each size; the smallest is 1."""


def check_model_config(folder: Path) -> None:
    """CheckpointError when a folder's ``config.json`` is damaged or holds a size that no model has.

    A folder without one, or a hub name, passes: whoever loads it says what is missing.
    """
    path = folder / CONFIG
    if not path.is_file():
        return
    try:
        values = read_object(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{error}; copy the model again") from error
    wrong = list(_wrong(values, ""))
    vision = values.get("vision_config")
    if isinstance(vision, Mapping):
        wrong += _wrong(vision, "vision_config.")
    if wrong:
        raise CheckpointError(f"{path}: {'; '.join(wrong[:5])}; copy the model again")


def _wrong(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for name, largest in LARGEST.items():
        value = values.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
            yield f"{prefix}{name} is {str(value)[:40]}, a whole number from 1 to {largest} is due"
        else:
            sizes[name] = value
    width, heads = sizes.get("hidden_size"), sizes.get("num_attention_heads")
    if width and heads and width % heads:
        yield f"{prefix}hidden_size {width} is no multiple of num_attention_heads {heads}"
