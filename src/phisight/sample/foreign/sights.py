"""Foreign images of other domains without text: a landscape, a map, a night sky, a portrait."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from phisight.sample.foreign.surfaces import color


def landscape(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A sky, perhaps with a sun, and hills before it."""
    sky = np.linspace(0, 1, height)[:, None, None]
    pixels = (1 - sky) * np.array(color(rng, 60, 200)) + sky * np.array(color(rng, 170, 256))
    image = Image.fromarray(np.broadcast_to(pixels, (height, width, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.6:
        x, y, r = rng.uniform(0, width), rng.uniform(0, height / 2), rng.uniform(0.04, 0.1) * height
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(255, int(rng.integers(200, 250)), 180))
    steps = np.linspace(0, 1, 24)
    for row in range(int(rng.integers(2, 5))):
        middle, waves = 0.45 + 0.13 * row, rng.normal(size=(3, 2)) * 0.06
        ridge = middle + sum(a * np.sin((i + 1) * 3 * steps + 9 * b) for i, (a, b) in enumerate(waves))
        ground = [(float(x * width), float(y * height)) for x, y in zip(steps, ridge, strict=True)]
        pen.polygon([*ground, (width, height), (0, height)], fill=color(rng, 20, 150))
    return image.filter(ImageFilter.GaussianBlur(0.6))


def city_map(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Blocks, a park, a river and streets, seen from above."""
    image = Image.new("RGB", (width, height), color(rng, 215, 245))
    pen = ImageDraw.Draw(image)
    step = max(12, min(width, height) // int(rng.integers(4, 9)))
    for left in range(0, width, step):
        for top in range(0, height, step):
            fill = (190, 220, 170) if rng.random() < 0.12 else color(rng, 205, 235)
            pen.rectangle([left + 2, top + 2, left + step - 3, top + step - 3], fill=fill)
    bends = rng.uniform(0, height, 6)
    river = [(float(x), float(y)) for x, y in zip(np.linspace(0, width, 6), bends, strict=True)]
    pen.line(river, fill=(150, 190, 230), width=max(3, step // 3), joint="curve")
    for _ in range(int(rng.integers(2, 5))):
        ends = [(float(rng.uniform(0, width)), 0.0), (float(rng.uniform(0, width)), float(height))]
        pen.line(ends, fill=(250, 205, 110), width=max(2, step // 8))
    return image


def night_sky(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Stars and perhaps a moon."""
    image = Image.new("RGB", (width, height), color(rng, 0, 34))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(30, 200))):
        x, y, r, light = (
            rng.uniform(0, width),
            rng.uniform(0, height),
            rng.exponential(0.8),
            int(rng.integers(120, 256)),
        )
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(light, light, min(255, light + 12)))
    if rng.random() < 0.5:
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.06, 0.14) * min(width, height)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(236, 232, 210))
    return image


def portrait(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A drawn face before a wall."""
    image = Image.new("RGB", (width, height), color(rng, 90, 230))
    pen, unit = ImageDraw.Draw(image), min(width, height) / 10
    x, y = width / 2 + rng.normal() * unit / 2, height / 2 + rng.normal() * unit / 3
    skin = tuple(int(one * rng.uniform(0.45, 1.0)) for one in (255, 220, 190))
    hair, ink = color(rng, 10, 120), (30, 24, 22)
    pen.ellipse([x - 2.9 * unit, y - 3.9 * unit, x + 2.9 * unit, y + 2.4 * unit], fill=hair)
    pen.ellipse([x - 2.4 * unit, y - 3.0 * unit, x + 2.4 * unit, y + 3.2 * unit], fill=skin)
    for side in (-1, 1):
        eye = x + side * unit
        pen.ellipse([eye - 0.45 * unit, y - 0.75 * unit, eye + 0.45 * unit, y - 0.25 * unit], fill="white")
        pen.ellipse([eye - 0.2 * unit, y - 0.7 * unit, eye + 0.2 * unit, y - 0.3 * unit], fill=ink)
    pen.line(
        [(x, y - 0.2 * unit), (x - 0.3 * unit, y + 0.8 * unit), (x + 0.2 * unit, y + 0.8 * unit)], fill=ink, width=2
    )
    smile = [x - unit, y + 0.9 * unit, x + unit, y + (1.2 + rng.uniform(0.3, 0.9)) * unit]
    pen.arc(smile, 15, 165, fill=(150, 50, 50), width=max(2, round(unit / 5)))
    return image
