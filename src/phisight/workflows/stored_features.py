"""A frozen tower's features go to disk before the first step, where the recipe and the disk allow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phisight.core.dataset_folder import SHA256
from phisight.core.settings import Recipe
from phisight.data.dataset.image_groups import images_of
from phisight.train.cache.vision_features import FeatureCache, bytes_needed, fill, image_embedding, is_fixed, tower_key
from phisight.train.distributed.process_group import on_first
from phisight.train.examples.dataset import ExampleSet


def store_features(recipe: Recipe, model: Any, sets: list[ExampleSet], filling: Callable[[int, int], None]) -> str:
    """Let examples bring a frozen tower's features, computed now where they lack; returns what was done and why."""
    if recipe.data.feature_cache_gb == 0:
        return "Tower features are computed in every step: data.feature_cache_gb is 0."
    if not is_fixed(model):
        return "Tower features are computed in every step, since the tower trains."
    first, rows = sets[0], [picture for one in sets for row in one.rows for picture in images_of(row)]
    if any(SHA256 not in row for row in rows):
        return f"Tower features are computed in every step: the data set has no column {SHA256}."
    bf16 = recipe.train.bf16
    key = tower_key(model, first.processor.image_processor, first.num_crops, bf16=bf16)
    cache = FeatureCache(recipe.data.feature_cache or recipe.out.parent / "features", key)
    needed = bytes_needed(model, rows, first.num_crops)
    names, bound = {row[SHA256] for row in rows}, int(recipe.data.feature_cache_gb * 1e9)
    if not on_first(lambda: cache.make_room(names, needed, bound)):
        return (
            f"Tower features are computed in every step: all of them take {needed / 1e9:.1f} GB, "
            f"data.feature_cache_gb is {recipe.data.feature_cache_gb:g}."
        )
    workers = recipe.data.workers
    computed = on_first(lambda: fill(cache, model, rows, first.pixels, bf16=bf16, workers=workers, progress=filling))
    for one in sets:
        one.features = cache
    image_embedding(model).tower_at_rest = True
    return f"Tower features are stored in {cache.folder} ({needed / 1e9:.2f} GB, {computed} pictures computed now)."
