"""From a sketch to pixels: each part is an anti-aliased mask through which lit cloth is pasted.

Only the part's bounding box is touched, at the final size: no supersampling of whole pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aggdraw
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from phisight.sample.draw.cloth import Cloth, patch
from phisight.sample.draw.outline import Points
from phisight.sample.draw.sketch import Colour, Fill, Light, Line, Sketch

_GLOSS = {"leather": 0.28, "patent leather": 0.6, "silk": 0.42, "satin": 0.5, "nylon": 0.34, "metal": 0.5}
_GRID = 24


@dataclass(frozen=True)
class Pose:
    """Where the box lands in the picture: ``points @ matrix.T + shift``, in pixels."""

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def unit(self) -> float:
        """Pixels per box unit."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    @property
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
    for part in sketch.parts:
        points = pose.apply(part.points)
        if isinstance(part, Fill):
            _fill(image, part, points, pose, cloths, rng)
        else:
            _stroke(image, part, points, pose.unit)


def silhouette(sketch: Sketch, pose: Pose, width: int, height: int, scale: float) -> Image.Image:
    """The union of the solid parts as an 8-bit mask of ``width`` x ``height``, at ``scale`` of the picture."""
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
    if isinstance(part.surface, str):
        cloth = cloths[part.surface]
        seed = int(rng.integers(1 << 30))
        pixels = patch(cloth, box.width, box.height, pose.unit, pose.turn + part.angle, seed)
        pixels = _lit(pixels, part.light, part.shade, _GLOSS.get(cloth.material, 0.0), rng)
        dark = _darker(cloth.colour)
    else:
        pixels = _lit(Image.new("RGB", (box.width, box.height), part.surface), part.light, part.shade, 0.0, rng)
        dark = _darker(part.surface)
    image.paste(pixels, (box.left, box.top), mask)
    if part.edge > 0:
        closed = np.concatenate([points, points[:1]])
        _stroke(image, Line(closed, dark, 0.55, part.edge), closed, pose.unit)


def _lit(pixels: Image.Image, light: Light, shade: float, gloss: float, rng: np.random.Generator) -> Image.Image:
    across = np.linspace(-1.0, 1.0, _GRID)
    x, y = np.meshgrid(across, across)
    if light == "round":
        value = 1.0 - 0.30 * np.clip(np.abs(x + 0.25), 0, None) ** 2.2 - 0.05 * y
    elif light == "ball":
        value = 1.04 - 0.30 * ((x + 0.35) ** 2 + (y + 0.4) ** 2) ** 0.9
    else:
        value = 0.985 - 0.05 * x - 0.05 * y
    wrinkle = rng.normal(size=(5, 5))
    soft = Image.fromarray(wrinkle.astype(np.float32)).resize((_GRID, _GRID), Image.Resampling.BICUBIC)
    value = np.clip((value + 0.028 * np.asarray(soft)) * shade, 0.05, 1.0)
    pixels = ImageChops.multiply(pixels, _map(value, pixels.size))
    if gloss:
        sheen = np.exp(-(((x + 0.42 + 0.10 * y) / 0.16) ** 2)) + 0.5 * np.exp(-(((x - 0.55 + 0.1 * y) / 0.10) ** 2))
        sheen = sheen * (0.75 + 0.35 * np.clip(np.asarray(soft), -1, 1)) * gloss * shade
        pixels = ImageChops.screen(pixels, _map(np.clip(sheen, 0, 1), pixels.size))
    return pixels


def _map(value: NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
    small = Image.fromarray((value * 255).astype(np.uint8))
    return Image.merge("RGB", [small.resize(size, Image.Resampling.BILINEAR)] * 3)


def _stroke(image: Image.Image, line: Line, points: Points, unit: float) -> None:
    width = max(0.7, line.width * unit)
    box = _Box.around(points, width, image)
    if box is None:
        return
    draw = aggdraw.Draw("L", (box.width, box.height), 0)
    pen = aggdraw.Pen(round(255 * line.opacity), width)
    for piece in _pieces(points - [box.left, box.top], line.dash * unit):
        draw.line(piece.ravel().tolist(), pen)
    image.paste(line.colour, (box.left, box.top), Image.frombytes("L", (box.width, box.height), draw.tobytes()))


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


def _darker(colour: Colour) -> Colour:
    red, green, blue = (round(channel * 0.38) for channel in colour)
    return red, green, blue
