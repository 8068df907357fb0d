"""Fills the caches on disk before the first step, where recipe and disk allow it, and reports what was done.

train.from_layer k   hidden states before decoder layer k, one file per example      cache/hidden_states.py
otherwise            the frozen tower's features, one file per distinct image        cache/vision_features.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from phisight.core.dataset_folder import SHA256
from phisight.core.settings import Recipe
from phisight.data.dataset.image_groups import images_of
from phisight.train.acceleration.bfloat16 import computes_bfloat16
from phisight.train.cache import hidden_states, vision_features
from phisight.train.cache.offload import offload_below
from phisight.train.distributed.process_group import on_each_node
from phisight.train.examples.dataset import ExampleSet

Progress = Callable[[int, int], None]
"""Called with the number of files computed so far, and of those to compute."""
Unchanged = Callable[[Iterable[Mapping[str, Any]]], None]
"""Raises when an image of some row is not the one that the table records: what is cached speaks of that one."""


@dataclass(frozen=True)
class CacheReport:
    """Whether steps read from a cache, and why not, or where it is."""

    kind: Literal["tower features", "hidden states", "reference log-probabilities"]
    used: bool
    reason: str = ""
    """Why every step computes what the cache would hold; empty where it is used."""
    folder: Path | None = None
    bytes: int = 0
    """Size of what the run needs."""
    computed: int = 0
    """Files that this run added; the others were there."""
    offloaded: bool = False
    """Weights that no step needs have left the memory."""

    def __str__(self) -> str:
        """One sentence for the screen."""
        if not self.used:
            return f"Every step computes {self.kind}: {self.reason}."
        offloaded = "; the weights below are offloaded" if self.offloaded else ""
        return (
            f"Cached {self.kind} in {self.folder} ({self.bytes / 1e9:.2f} GB, {self.computed} files computed now)"
            f"{offloaded}."
        )


def fill_caches(
    recipe: Recipe, model: Any, sets: list[ExampleSet], progress: Progress, unchanged: Unchanged
) -> list[CacheReport]:
    """Compute what no step changes and the caches lack; from then on the examples of ``sets`` read it from disk.

    Images that are not read, since the cache has them, are compared with the table by ``unchanged``.
    """
    trunk = _fill_hidden_states(recipe, model, sets, progress, unchanged) if recipe.train.from_layer else None
    if trunk is not None and trunk.used:
        return [trunk]
    features = _fill_features(recipe, model, sets, progress, unchanged)
    return [features] if trunk is None else [trunk, features]


def _fill_features(
    recipe: Recipe, model: Any, sets: list[ExampleSet], progress: Progress, unchanged: Unchanged
) -> CacheReport:
    """Let the examples read the features of a frozen tower."""
    first, images = sets[0], [image for one in sets for row in one.rows for image in images_of(row)]
    bound, needed = int(recipe.data.feature_cache_gb * 1e9), 0
    reason = "the tower trains" if not vision_features.is_frozen(model) else _no_hash(sets) or _augmented(sets)
    if bound == 0:
        reason = "data.feature_cache_gb is 0"
    if reason:
        return CacheReport("tower features", used=False, reason=reason)
    bf16 = computes_bfloat16(recipe.train)
    key = vision_features.tower_key(model, first.processor.image_processor, first.num_crops, bf16=bf16)
    cache = vision_features.FeatureCache(recipe.data.feature_cache or recipe.out.parent / "features", key)
    needed = vision_features.bytes_needed(model, images, first.num_crops)
    names = {image[SHA256] for image in images}
    if not on_each_node(lambda: cache.make_room(names, needed, bound)):
        reason = f"they take {needed / 1e9:.1f} GB, data.feature_cache_gb is {recipe.data.feature_cache_gb:g}"
        return CacheReport("tower features", used=False, reason=reason, bytes=needed)

    def compare_cached() -> None:
        cached = {name for name in names if not cache.lacks(name)}
        unchanged(image for image in images if image[SHA256] in cached)

    on_each_node(compare_cached)
    computed = on_each_node(
        lambda: vision_features.fill(
            cache, model, images, first.pixels, bf16=bf16, workers=recipe.data.workers, progress=progress
        )
    )
    for one in sets:
        one.features = cache
    vision_features.image_embedding(model).features_precomputed = True
    return CacheReport("tower features", used=True, folder=cache.folder, bytes=needed, computed=computed)


def _fill_hidden_states(
    recipe: Recipe, model: Any, sets: list[ExampleSet], progress: Progress, unchanged: Unchanged
) -> CacheReport | None:
    """Let the examples read hidden states; None where the recipe does not ask for it.

    In a run of one process the weights below the trained layers are then offloaded.
    """
    layer, bound = recipe.train.from_layer, int(recipe.data.trunk_cache_gb * 1e9)
    if bound == 0:
        return None
    reason = _no_hash(sets) or _augmented(sets) or hidden_states.why_not_fixed(model, layer)
    if recipe.train.objective == "dpo":
        reason = "train.objective dpo has several answers to an image"
    if reason:
        return CacheReport("hidden states", used=False, reason=reason)
    first, bf16 = sets[0], computes_bfloat16(recipe.train)
    key = hidden_states.trunk_key(model, layer, first.processor.image_processor, first.num_crops, bf16=bf16)
    folder = (recipe.data.feature_cache or recipe.out.parent / "features") / "trunk"
    cache = hidden_states.TrunkCache(folder, key, layer)
    lengths = {name: n for one in sets for name, n in zip(one.names, one.lengths, strict=True)}
    needed = hidden_states.bytes_needed(model, layer, lengths.values())
    if not on_each_node(lambda: hidden_states.make_room(cache, lengths, needed, bound)):
        reason = f"they take {needed / 1e9:.1f} GB, data.trunk_cache_gb is {recipe.data.trunk_cache_gb:g}"
        return CacheReport("hidden states", used=False, reason=reason, bytes=needed)
    workers = recipe.data.workers
    named = [(name, row) for one in sets for name, row in zip(one.names, one.rows, strict=True)]
    on_each_node(lambda: unchanged(one for name, row in named if not cache.lacks(name) for one in images_of(row)))
    computed = on_each_node(
        lambda: hidden_states.fill(cache, model, sets, bf16=bf16, workers=workers, progress=progress)
    )
    for one in sets:
        one.trunk = cache
    alone = not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1
    offloaded = alone and offload_below(model, layer, cache)
    return CacheReport(
        "hidden states", used=True, folder=cache.folder, bytes=needed, computed=computed, offloaded=offloaded
    )


def _augmented(sets: list[ExampleSet]) -> str:
    """That images differ from epoch to epoch, or nothing."""
    return "data.augment changes the images" if any(one.augment for one in sets) else ""


def _no_hash(sets: list[ExampleSet]) -> str:
    """Why the images of some rows cannot be named, or nothing."""
    known = all(SHA256 in image for one in sets for row in one.rows for image in images_of(row))
    return "" if known else f"the data set has no column {SHA256}"
