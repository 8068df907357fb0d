"""Images for the tests of the data path, drawn on the spot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def smooth_image(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Smooth color noise: a different, photo-like image for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The image as a file of that kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_images(folder: Path, count: int) -> list[str]:
    """Write images 0 to count - 1 below the folder; their paths relative to it."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    names = [f"photos/{seed}.jpg" for seed in range(count)]
    for seed, name in enumerate(names):
        (folder / name).write_bytes(encoded(smooth_image(seed)))
    return names
