"""The HD grid: how an image is scaled, padded and cut, and how many tokens it becomes. Integers only.

    image --scale to columns * crop wide--> int(height) --pad--> rows x columns tiles of crop x crop
    tokens = tiles * n^2  +  separators of the tile rows  +  1  +  thumbnail n^2 + its n separators,  n = crop / 28

Source: the official image processor of microsoft/Phi-3-vision-128k-instruct and Phi-3.5-vision-instruct, whose
truncations are part of the format: the float division can land just below an integer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from phisight.core.errors import ElongatedImageError

CROP_SIZE = 336
"""Pixels of a tile's side in the published models (CLIP ViT-L/14 at 336)."""

PIXELS_PER_TOKEN = 28
"""Pixels of the side that one token covers: patches of 14, merged two by two."""


@dataclass(frozen=True)
class HDGrid:
    """Where an image's pixels go.

    ``scaled_*`` and ``pad_*`` speak of the landscape frame: a portrait image (``transposed``) is mirrored along its
    main diagonal first and mirrored back at the end. ``width``, ``height``, ``rows``, ``columns`` speak of the result.
    """

    transposed: bool
    scaled_width: int
    scaled_height: int
    pad_top: int
    pad_bottom: int
    width: int
    height: int
    crop_size: int

    @property
    def rows(self) -> int:
        """Tiles from top to bottom."""
        return self.height // self.crop_size

    @property
    def columns(self) -> int:
        """Tiles from left to right."""
        return self.width // self.crop_size

    @property
    def tiles(self) -> int:
        """Tiles of the image, the thumbnail not counted."""
        return self.rows * self.columns


def hd_grid(width: int, height: int, num_crops: int, crop_size: int = CROP_SIZE) -> HDGrid:
    """Grid of an image of ``width`` x ``height`` pixels with at most ``num_crops`` tiles.

    Images are always scaled, up or down; ElongatedImageError when nothing of the short side would be left.
    """
    transposed = width < height
    ratio = height / width if transposed else width / height
    scale = 1
    while (scale + 1) * math.ceil((scale + 1) / ratio) <= num_crops:
        scale += 1
    scaled_width = crop_size * scale
    scaled_height = int(scaled_width / ratio)
    if scaled_height == 0:
        raise ElongatedImageError(
            f"an image of {width} x {height} pixels is too long and thin for {num_crops} crops: scaled to "
            f"{scaled_width} pixels its short side is below one pixel; crop it or leave it out"
        )
    padded_height = math.ceil(scaled_height / crop_size) * crop_size
    pad_top = (padded_height - scaled_height) // 2
    final_width, final_height = (padded_height, scaled_width) if transposed else (scaled_width, padded_height)
    return HDGrid(
        transposed=transposed,
        scaled_width=scaled_width,
        scaled_height=scaled_height,
        pad_top=pad_top,
        pad_bottom=padded_height - scaled_height - pad_top,
        width=final_width,
        height=final_height,
        crop_size=crop_size,
    )


def grid_tokens(rows: int, columns: int, crop_size: int = CROP_SIZE) -> int:
    """Image tokens of a grid of tiles, separators and thumbnail counted (313 for 1 x 1 at 336 pixels)."""
    side = crop_size // PIXELS_PER_TOKEN
    return (rows * columns + 1) * side * side + 1 + (rows + 1) * side


def image_tokens(width: int, height: int, num_crops: int, crop_size: int = CROP_SIZE) -> int:
    """Image tokens of an image of ``width`` x ``height`` pixels."""
    grid = hd_grid(width, height, num_crops, crop_size)
    return grid_tokens(grid.rows, grid.columns, crop_size)
