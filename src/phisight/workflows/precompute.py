"""Hidden states below the trained layers go to disk before the first step, where the recipe and the disk allow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from phisight.core.dataset_folder import SHA256
from phisight.core.settings import Recipe
from phisight.data.dataset.image_groups import images_of
from phisight.train.cache.hidden_states import TrunkCache, bytes_needed, changes_below, fill, make_room, trunk_key
from phisight.train.cache.offload import rest_below
from phisight.train.distributed.process_group import on_first
from phisight.train.examples.dataset import ExampleSet
from phisight.workflows.stored_features import store_features


def store_what_rests(recipe: Recipe, model: Any, sets: list[ExampleSet], filling: Callable[[int, int], None]) -> str:
    """Store what no step changes: hidden states below ``train.from_layer``, or a frozen tower's features.

    Returns what was done and why. ``filling`` hears of examples that are computed.
    """
    told = store_trunk(recipe, model, sets, filling)
    if all(one.trunk for one in sets):
        return told
    features = store_features(recipe, model, sets, filling)
    return f"{told} {features}" if told else features


def store_trunk(recipe: Recipe, model: Any, sets: list[ExampleSet], filling: Callable[[int, int], None]) -> str:
    """Let examples bring hidden states, computed now where they lack; returns what was done, if asked for.

    In a run of one process the weights below the trained layers then leave the memory.
    """
    layer = recipe.train.from_layer
    if layer == 0 or recipe.data.trunk_cache_gb == 0:
        return ""
    if reason := why_not(recipe, model, sets):
        return f"All layers run in every step: {reason}."
    first, bf16 = sets[0], recipe.train.bf16
    key = trunk_key(model, layer, first.processor.image_processor, first.num_crops, bf16=bf16)
    cache = TrunkCache((recipe.data.feature_cache or recipe.out.parent / "features") / "trunk", key, layer)
    names = [name for one in sets for name in one.names]
    needed = bytes_needed(
        model, layer, dict(zip(names, (n for one in sets for n in one.lengths), strict=True)).values()
    )
    bound = int(recipe.data.trunk_cache_gb * 1e9)
    if not on_first(lambda: make_room(cache, names, needed, bound)):
        return (
            f"All layers run in every step: hidden states before layer {layer} take {needed / 1e9:.1f} GB, "
            f"data.trunk_cache_gb is {recipe.data.trunk_cache_gb:g}."
        )
    workers = recipe.data.workers
    computed = on_first(lambda: fill(cache, model, sets, bf16=bf16, workers=workers, progress=filling))
    for one in sets:
        one.trunk = cache
    alone = not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1
    resting = alone and rest_below(model, layer, cache)
    return (
        f"Hidden states before layer {layer} are stored in {cache.folder} ({needed / 1e9:.2f} GB, {computed} examples "
        f"computed now); the weights below {'leave the memory' if resting else 'stay in memory'}."
    )


def why_not(recipe: Recipe, model: Any, sets: list[ExampleSet]) -> str | None:
    """What keeps hidden states from being stored, apart from their size."""
    if any(SHA256 not in picture for one in sets for row in one.rows for picture in images_of(row)):
        return f"the data set has no column {SHA256}"
    return changes_below(model, recipe.train.from_layer)
