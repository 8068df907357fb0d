"""Cloth: a color, a pattern and a material as pixels.

Patterns are tiles, drawn once at four times the size and averaged down, then repeated (and turned) over a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import aggdraw
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phisight.sample.draw.sketch import Color

_FINE = 4  # tiles are drawn this many times larger


@dataclass(frozen=True)
class Cloth:
    """What a part is cut from."""

    color: Color
    contrast: Color
    pattern: str = "plain"
    material: str = "cotton"


def patterned(cloth: Cloth, width: int, height: int, unit: float, angle: float, seed: int) -> Image.Image:
    """RGB pixels of the pattern; ``unit`` is pixels per box unit, ``angle`` in degrees, ``seed`` moves the pattern."""
    period = max(6, round(unit * _PERIOD[cloth.pattern]))
    angle += _ANGLE.get(cloth.pattern, 0.0)
    if abs(angle) < 0.5:
        return _repeat(_tile(cloth.pattern, cloth.color, cloth.contrast, period), width, height, seed)
    # twice as fine, turned by nearest pixels, averaged: smooth, and cheaper than interpolating
    fine = _tile(cloth.pattern, cloth.color, cloth.contrast, 2 * period)
    return _turned(fine, 2 * width, 2 * height, angle, seed).reduce(2)


def grained(material: str, width: int, height: int, unit: float) -> Image.Image | None:
    """RGB brightness of the weave or grain of a material; None where it is smooth."""
    tile = _grain(material, max(1, round(unit)))
    return None if tile is None else _repeat(tile, width, height, 0)


_PERIOD = {
    "stripe": 9.0,
    "check": 15.0,
    "houndstooth": 7.0,
    "dots": 9.0,
    "floral": 19.0,
    "argyle": 13.0,
    "herringbone": 5.0,
    "monogram": 12.0,
    "quilted": 8.5,
}
_ANGLE = {"quilted": 45.0}


def _repeat(tile: Image.Image, width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(_tiled(np.asarray(tile), height, width, seed))


def _turned(tile: Image.Image, width: int, height: int, angle: float, seed: int) -> Image.Image:
    sin, cos = float(np.sin(np.deg2rad(angle))), float(np.cos(np.deg2rad(angle)))
    wide = int(width * abs(cos) + height * abs(sin)) + 3
    high = int(width * abs(sin) + height * abs(cos)) + 3
    large = Image.fromarray(_tiled(np.asarray(tile), high, wide, seed))
    shift_x = wide / 2 - cos * width / 2 - sin * height / 2
    shift_y = high / 2 + sin * width / 2 - cos * height / 2
    affine = (cos, sin, shift_x, -sin, cos, shift_y)
    return large.transform((width, height), Image.Transform.AFFINE, affine, resample=Image.Resampling.NEAREST)


def _tiled(pixels: NDArray[np.uint8], height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """The tile repeated over a field, begun somewhere inside it."""
    off_y, off_x = seed % pixels.shape[0], (seed // 7) % pixels.shape[1]
    rows = -(-(height + off_y) // pixels.shape[0])
    columns = -(-(width + off_x) // pixels.shape[1])
    return np.ascontiguousarray(np.tile(pixels, (rows, columns, 1))[off_y : off_y + height, off_x : off_x + width])


@lru_cache(maxsize=512)
def _tile(pattern: str, base: Color, contrast: Color, period: int) -> Image.Image:
    size = period * _FINE
    draw = aggdraw.Draw("RGB", (size, size), base)
    _DRAW[pattern](draw, float(size), base, contrast)
    image = Image.frombytes("RGB", (size, size), draw.tobytes())
    return image.resize((period, period), Image.Resampling.BOX)


def _stripe(draw: aggdraw.Draw, size: float, _base: Color, contrast: Color) -> None:
    draw.rectangle([0, 0, size, size * 0.36], None, aggdraw.Brush(contrast))


def _check(draw: aggdraw.Draw, size: float, base: Color, contrast: Color) -> None:
    wide = aggdraw.Brush(contrast, 140)
    for low, high in ((0.0, 0.15), (0.25, 0.40)):
        draw.rectangle([0, low * size, size, high * size], None, wide)
        draw.rectangle([low * size, 0, high * size, size], None, wide)
    thin = aggdraw.Brush(_accent(base), 230)
    draw.rectangle([0, 0.72 * size, size, 0.77 * size], None, thin)
    draw.rectangle([0.72 * size, 0, 0.77 * size, size], None, thin)


def _houndstooth(draw: aggdraw.Draw, size: float, _base: Color, contrast: Color) -> None:
    brush = aggdraw.Brush(contrast)
    half, quarter = size / 2, size / 4
    draw.rectangle([0, 0, half, half], None, brush)
    draw.polygon([half, 0, half + quarter, 0, half, quarter], None, brush)
    draw.polygon([size, 0, size, quarter, half + quarter, half, half, half], None, brush)
    draw.polygon([0, half, quarter, half, 0, half + quarter], None, brush)
    draw.polygon([half, half, half, half + quarter, quarter, size, 0, size], None, brush)


def _dots(draw: aggdraw.Draw, size: float, _base: Color, contrast: Color) -> None:
    radius = size * 0.19
    for x, y in ((0.25, 0.25), (0.75, 0.75)):
        draw.ellipse(
            [x * size - radius, y * size - radius, x * size + radius, y * size + radius], None, aggdraw.Brush(contrast)
        )


def _floral(draw: aggdraw.Draw, size: float, base: Color, contrast: Color) -> None:
    leaf, heart = aggdraw.Brush(_leaf(base)), aggdraw.Brush(_accent(base))
    for x, y, radius, turn in (
        (0.28, 0.3, 0.12, 0.0),
        (0.76, 0.74, 0.14, 0.5),
        (0.8, 0.2, 0.07, 0.2),
        (0.24, 0.78, 0.08, 0.9),
    ):
        for side in (-1, 1):
            cx, cy = x + side * radius * 1.5, y + side * radius * 0.9
            _disc(draw, cx * size, cy * size, radius * 0.55 * size, leaf)
        for petal in range(5):
            angle = turn + petal * 2 * np.pi / 5
            cx, cy = x + np.cos(angle) * radius * 0.75, y + np.sin(angle) * radius * 0.75
            _disc(draw, cx * size, cy * size, radius * 0.58 * size, aggdraw.Brush(contrast))
        _disc(draw, x * size, y * size, radius * 0.38 * size, heart)


def _disc(draw: aggdraw.Draw, x: float, y: float, radius: float, brush: aggdraw.Brush) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], None, brush)


def _argyle(draw: aggdraw.Draw, size: float, base: Color, contrast: Color) -> None:
    half = size / 2
    low, high, left, right = (size * share for share in (0.08, 0.92, 0.14, 0.86))
    # three tenths of the cloth: the base stays the color that names it
    draw.polygon([half, low, right, half, half, high, left, half], None, aggdraw.Brush(contrast))
    pen = aggdraw.Pen(_accent(base), size * 0.035, 220)
    for shift in (-half, half):
        draw.line([shift, 0, shift + size, size], pen)
        draw.line([shift + size, 0, shift, size], pen)


def _herringbone(draw: aggdraw.Draw, size: float, _base: Color, contrast: Color) -> None:
    pen = aggdraw.Pen(contrast, size * 0.11, 190)
    for step in range(-2, 3):
        y = step * size / 2
        draw.line([0, y, size / 2, y + size / 2], pen)
        draw.line([size / 2, y + size / 2, size, y], pen)


def _monogram(draw: aggdraw.Draw, size: float, _base: Color, contrast: Color) -> None:
    pen = aggdraw.Pen(contrast, size * 0.05)
    for x, y in ((0.25, 0.25), (0.75, 0.75)):
        r = 0.14 * size
        cx, cy = x * size, y * size
        draw.ellipse([cx - r, cy - r, cx + r, cy + r], pen)
        draw.line([cx, cy - r * 1.5, cx, cy + r * 1.5], pen)
    for x, y in ((0.75, 0.25), (0.25, 0.75)):
        r, cx, cy = 0.09 * size, x * size, y * size
        draw.polygon([cx, cy - r, cx + r, cy, cx, cy + r, cx - r, cy], None, aggdraw.Brush(contrast))


def _quilted(draw: aggdraw.Draw, size: float, base: Color, _contrast: Color) -> None:
    steps = 7
    for step in range(steps):
        inset = size * 0.5 * step / steps
        lift = 0.80 + 0.32 * step / steps
        draw.rectangle([inset, inset, size - inset, size - inset], None, aggdraw.Brush(_scaled(base, lift)))
    draw.rectangle([0, 0, size * 0.045, size], None, aggdraw.Brush(_scaled(base, 0.55)))
    draw.rectangle([0, 0, size, size * 0.045], None, aggdraw.Brush(_scaled(base, 0.55)))


_DRAW = {
    "stripe": _stripe,
    "check": _check,
    "houndstooth": _houndstooth,
    "dots": _dots,
    "floral": _floral,
    "argyle": _argyle,
    "herringbone": _herringbone,
    "monogram": _monogram,
    "quilted": _quilted,
}


def _scaled(color: Color, factor: float) -> Color:
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in color)
    return red, green, blue


def _accent(base: Color) -> Color:
    """The thin third color of a pattern: red on pale cloth and on near black, cream on what is saturated."""
    return (186, 34, 48) if sum(base) > 450 or max(base) < 60 else (250, 222, 140)


def _leaf(base: Color) -> Color:
    return (225, 215, 150) if base[1] > base[0] and base[1] > base[2] and max(base) < 190 else (62, 120, 72)


@lru_cache(maxsize=64)
def _grain(material: str, unit: int) -> Image.Image | None:
    """A tile of brightness for the weave or grain of a material; None where it is smooth."""
    size = 96
    rng = np.random.default_rng(len(material) * 131 + unit)
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    step = max(3, unit)
    if material in ("wool", "cashmere", "tweed", "shearling", "suede"):
        strength = {"wool": 0.10, "cashmere": 0.06, "tweed": 0.2, "shearling": 0.16, "suede": 0.07}[material]
        value = 1 - strength * rng.random((size, size))
    elif material in ("denim", "gabardine"):
        strength = 0.22 if material == "denim" else 0.06
        value = 1 - strength * (0.5 + 0.5 * np.sin((x + y) * 2 * np.pi / _divisor(size, step)))
        value -= 0.08 * rng.random((size, size)) * (material == "denim")
    elif material in ("canvas", "linen", "straw", "raffia"):
        strength = 0.1 if material in ("canvas", "linen") else 0.3
        period = _divisor(size, step if material in ("canvas", "linen") else 2 * step)
        value = 1 - strength * (0.5 + 0.25 * np.sin(x * 2 * np.pi / period) + 0.25 * np.sin(y * 2 * np.pi / period))
    elif material in ("leather", "patent leather"):
        value = 1 - 0.05 * rng.random((size, size))
    elif material == "knit":
        period = _divisor(size, 2 * step)
        value = 1 - 0.24 * np.abs(np.sin(x * np.pi / period)) ** 8
        value -= 0.10 * (0.5 + 0.5 * np.sin(y * 2 * np.pi / period + 2 * np.abs(np.sin(x * np.pi / period))))
    else:
        return None
    gray = np.clip(value * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(gray[:, :, None], 3, axis=2))


def _divisor(size: int, wanted: int) -> int:
    return min((part for part in range(2, size + 1) if size % part == 0), key=lambda part: abs(part - wanted))
