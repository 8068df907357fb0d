"""Rows of a split as a recipe wants them: one a picture, or one a product."""

from __future__ import annotations

from phisight.core.errors import DataError
from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.image_groups import Products, join_images


def product_rows(folder: DatasetFolder, recipe: Recipe, split: str) -> Products:
    """Rows of a split; DataError when it has none."""
    if split not in folder.split_names:
        raise DataError(f"{folder.path} has no row in the split {split!r}; splits: {folder.card.splits}")
    task = recipe.task or folder.task
    return join_images(folder.rows(split), folder.card.key, task.names, recipe.data.images)
