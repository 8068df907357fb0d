"""A task, noise images and the training examples made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from phisight.core.task import Task
from phisight.train.examples.dataset import ExampleSet

TASK = Task(
    answer="Product: {title}, Category: {kind}, Price: {price}",
    fields={"title": "text", "kind": "category", "price": "number"},
)


def noise_image(seed: int, size: tuple[int, int] = (120, 100)) -> Image.Image:
    """Uniform noise, uint8[height, width, 3]; ``size`` is (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(noise)


SHAPES = [(120, 100), (300, 120), (100, 230), (220, 220)]


def example_set(rows: list[dict[str, Any]], processor: Any, keep_bytes: int = 0) -> ExampleSet:
    """Examples of rows as the fixture ``shown`` gives them, of up to four crops; memory for so many bytes of images."""

    def load(row: Mapping[str, Any]) -> Any:
        return noise_image(row["seed"], (row["image_width"], row["image_height"]))

    return ExampleSet(rows, load, processor, TASK, num_crops=4, keep_bytes=keep_bytes)
