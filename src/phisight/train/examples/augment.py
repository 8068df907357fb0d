"""Random changes of training images, new in every epoch: a photo more for each photo, where there are few.

An augmented image has the size of the original, so that an example keeps its tokens; what is drawn follows from seed,
epoch, row and image alone, so that a resumed run sees the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from phisight.core.seeding import named_seed
from phisight.core.settings import Augmentation

LEAST_AREA = 0.5
"""Share of an image that ``crop`` keeps, at least."""
MOST_CHANGE = 0.3
"""Most that ``color`` changes each of ``ENHANCED``, as a share."""
ENHANCED = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True)
class Augment:
    """Augmentation of the images of a data set."""

    kinds: Collection[Augmentation]
    seed: int

    def __call__(self, image: Image.Image, epoch: int, index: int, place: int) -> Image.Image:
        """Image ``place`` of row ``index`` as an epoch shows it: RGB, of the same size."""
        return augmented(image, self.kinds, named_seed(self.seed, "augment", epoch, index, place))


def augmented(image: Image.Image, kinds: Collection[Augmentation], seed: int) -> Image.Image:
    """An image with each kind of change drawn from the seed: RGB, of the same size."""
    generator = np.random.default_rng(seed)
    changed = image.convert("RGB")
    mirrors, (area, left, top) = generator.random() < 0.5, generator.random(3)
    factors = 1 + MOST_CHANGE * generator.uniform(-1, 1, 3)
    if "flip" in kinds and mirrors:
        changed = ImageOps.mirror(changed)
    if "crop" in kinds:
        changed = _cropped(changed, (LEAST_AREA + (1 - LEAST_AREA) * area) ** 0.5, left, top)
    if "color" in kinds:
        for enhance, factor in zip(ENHANCED, factors, strict=True):
            changed = enhance(changed).enhance(float(factor))
    return changed


def _cropped(image: Image.Image, side: float, left: float, top: float) -> Image.Image:
    """A part with so much of each side, at a place between 0 and 1, scaled to the size of the whole."""
    width, height = image.width * side, image.height * side
    x, y = left * (image.width - width), top * (image.height - height)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))
