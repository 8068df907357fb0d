"""From a sketch to pixels: each part is an anti-aliased mask through which lit cloth is pasted.

Only the part's bounding box is touched, at the final size: no supersampling of whole images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import aggdraw
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from phisight.sample.draw.cloth import Cloth, grained, patterned
from phisight.sample.draw.outline import Points
from phisight.sample.draw.sketch import Color, Fill, Line, Sketch

_GLOSS = {"leather": 0.28, "patent leather": 0.6, "silk": 0.42, "satin": 0.5, "nylon": 0.34, "metal": 0.5}
_GRID = 24
_X, _Y = np.meshgrid(np.linspace(-1.0, 1.0, _GRID), np.linspace(-1.0, 1.0, _GRID))
_ROUND = 1.0 - 0.30 * np.abs(_X + 0.25) ** 2.2 - 0.05 * _Y
_BALL = 1.04 - 0.30 * ((_X + 0.35) ** 2 + (_Y + 0.4) ** 2) ** 0.9
_FLAT = 0.985 - 0.05 * _X - 0.05 * _Y
_LIGHT = {"round": _ROUND, "ball": _BALL, "flat": _FLAT}


@dataclass(frozen=True)
class Pose:
    """Where the box lands in the image: ``points @ matrix.T + shift``, in pixels."""

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    @cached_property
    def unit(self) -> float:
        """Pixels per box unit."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    @cached_property
    def turn(self) -> float:
        """Degrees by which the box is turned."""
        return float(np.rad2deg(np.arctan2(-self.matrix[0, 1], self.matrix[1, 1])))

    def apply(self, points: Points) -> Points:
        """Box units to pixels."""
        return points @ self.matrix.T + self.shift


@dataclass(frozen=True)
class _Box:
    left: int
    top: int
    width: int
    height: int

    @classmethod
    def around(cls, points: Points, margin: float, image: Image.Image) -> _Box | None:
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        left, top = max(0, int(low[0])), max(0, int(low[1]))
        right, bottom = min(image.width, int(high[0]) + 2), min(image.height, int(high[1]) + 2)
        return cls(left, top, right - left, bottom - top) if right > left and bottom > top else None


def paint(
    image: Image.Image, sketch: Sketch, pose: Pose, cloths: Mapping[str, Cloth], rng: np.random.Generator
) -> None:
    """Paint every part of the sketch onto an RGB image, in place."""
    strokes: list[tuple[Line, Points]] = []
    for part in sketch.parts:
        points = pose.apply(part.points)
        if strokes and (isinstance(part, Fill) or part.color != strokes[0][0].color):
            _strokes(image, strokes, pose.unit)
            strokes = []
        if isinstance(part, Fill):
            _fill(image, part, points, pose, cloths, rng)
        else:
            strokes.append((part, points))
    if strokes:
        _strokes(image, strokes, pose.unit)


def silhouette(sketch: Sketch, pose: Pose, width: int, height: int, scale: float) -> Image.Image:
    """The union of the solid parts as an 8-bit mask of ``width`` x ``height``, at ``scale`` of the image."""
    draw = aggdraw.Draw("L", (width, height), 0)
    for part in sketch.parts:
        if not part.solid:
            continue
        flat = (pose.apply(part.points) * scale).ravel().tolist()
        if isinstance(part, Fill):
            draw.polygon(flat, None, aggdraw.Brush(255))
        else:
            draw.line(flat, aggdraw.Pen(255, max(0.6, part.width * pose.unit * scale)))
    return Image.frombytes("L", (width, height), draw.tobytes())


def _fill(
    image: Image.Image,
    part: Fill,
    points: Points,
    pose: Pose,
    cloths: Mapping[str, Cloth],
    rng: np.random.Generator,
) -> None:
    box = _Box.around(points, 1, image)
    if box is None:
        return
    local = (points - [box.left, box.top]).ravel().tolist()
    draw = aggdraw.Draw("L", (box.width, box.height), 0)
    draw.polygon(local, None, aggdraw.Brush(255))
    mask = Image.frombytes("L", (box.width, box.height), draw.tobytes())
    cloth = cloths[part.surface] if isinstance(part.surface, str) else Cloth(part.surface, part.surface, "plain", "")
    gloss = _GLOSS.get(cloth.material, 0.0)
    shade, sheen = _light(part, gloss, rng)
    if cloth.pattern == "plain":
        lit = shade[:, :, None] * np.array(cloth.color, dtype=np.float64)
        pixels = stretched(lit + sheen[:, :, None] * (255 - lit), mask.size, 1 if gloss else 3)
    else:
        seed = int(rng.integers(1 << 30))
        pixels = patterned(cloth, box.width, box.height, pose.unit, pose.turn + part.angle, seed)
        pixels = ImageChops.multiply(pixels, stretched(np.repeat(255 * shade[:, :, None], 3, axis=2), mask.size, 3))
        if gloss:
            pixels = ImageChops.screen(pixels, stretched(np.repeat(255 * sheen[:, :, None], 3, axis=2), mask.size, 2))
    if (grain := grained(cloth.material, box.width, box.height, pose.unit)) is not None:
        pixels = ImageChops.multiply(pixels, grain)
    image.paste(pixels, (box.left, box.top), mask)
    if part.edge > 0:
        closed = np.concatenate([points, points[:1]])
        _strokes(image, [(Line(closed, _darker(cloth.color), 0.55, part.edge), closed)], pose.unit)


def _light(part: Fill, gloss: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the cloth's color is multiplied by, and the share of white on top; float64[GRID, GRID], 0 to 1."""
    wrinkle = Image.fromarray(rng.normal(size=(5, 5)).astype(np.float32))
    soft = np.asarray(wrinkle.resize((_GRID, _GRID), Image.Resampling.BICUBIC), dtype=np.float64)
    shade = np.clip((_LIGHT[part.light] + 0.028 * soft) * part.shade, 0.05, 1.0)
    if not gloss:
        return shade, np.zeros_like(shade)
    streaks = np.exp(-(((_X + 0.42 + 0.10 * _Y) / 0.16) ** 2)) + 0.5 * np.exp(-(((_X - 0.55 + 0.1 * _Y) / 0.10) ** 2))
    sheen = streaks * (0.75 + 0.35 * np.clip(soft, -1, 1)) * gloss * part.shade
    return shade, np.clip(sheen, 0, 1)


def stretched(values: NDArray[np.float64], size: tuple[int, int], step: int) -> Image.Image:
    """A small float64[rows, columns, 3] grid of brightness as an RGB image of ``size``.

    Smooth to blocks of ``step`` pixels, which then repeat: where light changes by less than a level a pixel nobody sees
    the blocks, and it takes a fraction of the time.
    """
    grid = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    coarse = (max(1, size[0] // step), max(1, size[1] // step))
    return grid.resize(coarse, Image.Resampling.BILINEAR).resize(size, Image.Resampling.NEAREST)


def _strokes(image: Image.Image, lines: list[tuple[Line, Points]], unit: float) -> None:
    """Strokes of one color through one mask; a later stroke replaces an earlier one where they cross."""
    widest = max(line.width for line, _ in lines) * unit
    box = _Box.around(np.concatenate([points for _, points in lines]), max(0.7, widest), image)
    if box is None:
        return
    draw = aggdraw.Draw("L", (box.width, box.height), 0)
    for line, points in lines:
        pen = aggdraw.Pen(round(255 * line.opacity), max(0.7, line.width * unit))
        for piece in _pieces(points - [box.left, box.top], line.dash * unit):
            draw.line(piece.ravel().tolist(), pen)
    mask = Image.frombytes("L", (box.width, box.height), draw.tobytes())
    # an image pastes twice as fast as a color
    image.paste(Image.new("RGB", mask.size, lines[0][0].color), (box.left, box.top), mask)


def _pieces(points: Points, dash: float) -> list[Points]:
    """The polyline whole, or cut into stitches of ``dash`` pixels with gaps of the same length."""
    if dash < 1.5:
        return [points]
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    starts = np.arange(0.0, along[-1], 2 * dash)
    ends = np.stack([starts, np.minimum(starts + dash, along[-1])], axis=1)
    x = np.interp(ends, along, points[:, 0])
    y = np.interp(ends, along, points[:, 1])
    return list(np.stack([x, y], axis=2))


def _darker(color: Color) -> Color:
    red, green, blue = (round(channel * 0.38) for channel in color)
    return red, green, blue
