"""Foreign images without an object: blank, gradient, noise, shapes, and the cut-off corner of a photograph."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from phisight.sample.catalogue.designs import listings
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw.sketch import Color
from phisight.sample.render import draw_image

_CORNER = 0.2
"""Share of the sides of a photograph that is left of it."""


def color(rng: np.random.Generator, low: int = 0, high: int = 256) -> Color:
    """A color with channels from ``low`` to below ``high``."""
    red, green, blue = (int(one) for one in rng.integers(low, high, 3))
    return red, green, blue


def blank(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """One color; half of them nearly white or nearly black, as a lens cap or an overexposed shot."""
    shade = int(rng.integers(0, 12)) if rng.random() < 0.5 else int(rng.integers(243, 256))
    return Image.new("RGB", (width, height), (shade,) * 3 if rng.random() < 0.5 else color(rng))


def gradient(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Colors that run into each other."""
    side = int(rng.integers(2, 4))
    corners = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return corners.resize((width, height), Image.Resampling.BICUBIC)


def noise(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise of one grain size, gray or colored, on some brightness."""
    grain = int(rng.choice([1, 2, 4, 8, 16]))
    shape = (max(1, height // grain), max(1, width // grain), 1 if rng.random() < 0.5 else 3)
    values = rng.integers(60, 196) + rng.uniform(20, 90) * rng.normal(size=shape)
    pixels = np.broadcast_to(np.clip(values, 0, 255), (*shape[:2], 3)).astype(np.uint8)
    how = Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BICUBIC
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), how)


def shapes(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Ellipses and polygons over each other."""
    image = Image.new("RGB", (width, height), color(rng))
    pen, size = ImageDraw.Draw(image), np.array([width, height])
    for _ in range(int(rng.integers(4, 14))):
        middle, reach = rng.random(2) * size, rng.uniform(0.05, 0.35) * min(width, height)
        if rng.random() < 0.5:
            pen.ellipse([*(middle - reach), *(middle + reach)], fill=color(rng))
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            corners = middle + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            pen.polygon([tuple(one) for one in corners.tolist()], fill=color(rng))
    return image


def cut(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """The corner of a photograph of a product, where there is background and at most its edge."""
    seed = int(rng.integers(1 << 30))
    settings = preset("fashion", largest=448)
    photo = draw_image(seed, settings, listings(seed, settings, 0)[0].product, 0)
    box_width, box_height = max(8, round(photo.width * _CORNER)), max(8, round(photo.height * _CORNER))
    left = 0 if rng.random() < 0.5 else photo.width - box_width
    top = 0 if rng.random() < 0.5 else photo.height - box_height
    corner = photo.crop((left, top, left + box_width, top + box_height))
    return corner.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
