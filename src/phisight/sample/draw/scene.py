"""The photograph: background, light, pose, crop and the shadow that ties the product to the ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from phisight.sample.draw.cloth import Cloth
from phisight.sample.draw.paint import Pose, paint, silhouette, stretched
from phisight.sample.draw.sketch import Color, Sketch


@dataclass(frozen=True)
class Shot:
    """How one image of a design is taken. Angles in degrees, shares of the shorter side."""

    width: int
    height: int
    fill: float = 0.86
    turn: float = 0.0
    lean: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    mirrored: bool = False
    background: Color = (236, 234, 230)
    floor: bool = False
    light: float = 1.0
    seed: int = 0


def photograph(sketch: Sketch, cloths: Mapping[str, Cloth], shot: Shot) -> Image.Image:
    """An RGB image of ``shot.width`` x ``shot.height`` pixels."""
    rng = np.random.default_rng(shot.seed)
    pose = _pose(sketch, shot)
    image = _background(shot, rng)
    _shadow(image, sketch, pose)
    paint(image, sketch, pose, cloths, rng)
    return image


def _pose(sketch: Sketch, shot: Shot) -> Pose:
    points = np.concatenate([part.points for part in sketch.parts if part.solid])
    angle = np.deg2rad(shot.turn)
    cos, sin, lean = np.cos(angle), np.sin(angle), np.tan(np.deg2rad(shot.lean))
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, lean], [0.0, 1.0]])
    if shot.mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    turned = points @ turn.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    room = np.array([shot.width, shot.height]) * shot.fill
    scale = float((room / (high - low)).min())
    center = np.array([shot.width * (0.5 + shot.shift_x), shot.height * (0.5 + shot.shift_y)])
    return Pose(turn * scale, center - scale * (low + high) / 2)


def _background(shot: Shot, rng: np.random.Generator) -> Image.Image:
    size = 24
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    value = shot.light * (1.0 - 0.07 * ((x + 0.25) ** 2 + (y + 0.35) ** 2))
    if shot.floor:
        value *= np.where(y > 0.55, 0.93 - 0.05 * (y - 0.55), 1.0)
    value = value + 0.004 * rng.normal(size=value.shape)
    pixels = value[:, :, None] * np.array(shot.background, dtype=np.float64)
    return stretched(pixels, (shot.width, shot.height), 2)


def _shadow(image: Image.Image, sketch: Sketch, pose: Pose) -> None:
    scale = min(1.0, 96 / max(image.size))
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    mask = silhouette(sketch, pose, width, height, scale)
    soft = mask.filter(ImageFilter.GaussianBlur(2.6))
    moved: NDArray[np.float64] = np.roll(np.asarray(soft, dtype=np.float64), (2, 2), axis=(0, 1)) * 0.34
    near = np.asarray(mask.filter(ImageFilter.GaussianBlur(1.0)), dtype=np.float64) * 0.22
    alpha = Image.fromarray(np.maximum(moved, near).astype(np.uint8))
    dark = Image.new("RGB", image.size, (38, 34, 36))
    image.paste(dark, (0, 0), alpha.resize(image.size, Image.Resampling.BILINEAR))
