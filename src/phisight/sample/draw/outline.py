"""Outlines: SVG-style path strings flattened to points, and their mirror images.

Units are those of the drawing box: x from -50 (left) to 50, y from 0 (top) to 100. float64[N, 2] throughout.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_TOKEN = re.compile(r"[MLQC]|-?\d*\.?\d+(?:e-?\d+)?")
_STEPS = 10
_T = np.linspace(0.0, 1.0, _STEPS + 1)[1:, None]


@lru_cache(maxsize=4096)
def _flatten(path: str) -> Points:
    tokens = _TOKEN.findall(path)
    points: list[Points] = []
    here = np.zeros(2)
    command, at = "", 0
    while at < len(tokens):
        if tokens[at] in "MLQC":
            command, at = tokens[at], at + 1
        count = {"M": 1, "L": 1, "Q": 2, "C": 3}[command]
        knots = np.array(tokens[at : at + 2 * count], dtype=np.float64).reshape(count, 2)
        at += 2 * count
        points.append(_segment(command, here, knots))
        here = knots[-1]
    flat = np.concatenate(points)
    flat.setflags(write=False)
    return flat


def _segment(command: str, start: Points, knots: Points) -> Points:
    if command in "ML":
        return knots
    if command == "Q":
        curve: Points = (1 - _T) ** 2 * start + 2 * (1 - _T) * _T * knots[0] + _T**2 * knots[1]
    else:
        a, b, end = knots
        curve = (1 - _T) ** 3 * start + 3 * (1 - _T) ** 2 * _T * a + 3 * (1 - _T) * _T**2 * b + _T**3 * end
    return curve


def outline(path: str) -> Points:
    """Points of a path of absolute M, L, Q and C commands."""
    return _flatten(path)


def flip(points: Points) -> Points:
    """The points mirrored left to right."""
    mirror: Points = points * np.array([-1.0, 1.0])
    return mirror


def mirrored(path: str) -> Points:
    """A closed outline from its right half, given from top to bottom."""
    right = _flatten(path)
    return np.concatenate([right, flip(right)[::-1]])


def arch(path: str) -> Points:
    """An open curve from its right half, given from the top down: left foot, top, right foot."""
    right = _flatten(path)
    return np.concatenate([flip(right)[::-1], right])


def ellipse(x: float, y: float, rx: float, ry: float, steps: int = 40) -> Points:
    """An ellipse around (x, y), closed."""
    angle = np.linspace(0.0, 2 * np.pi, steps + 1)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> Points:
    """A rectangle with round corners."""
    r = min(radius, (right - left) / 2, (bottom - top) / 2)
    return outline(
        f"M{left + r:.3f} {top:.3f} L{right - r:.3f} {top:.3f} Q{right:.3f} {top:.3f} {right:.3f} {top + r:.3f} "
        f"L{right:.3f} {bottom - r:.3f} Q{right:.3f} {bottom:.3f} {right - r:.3f} {bottom:.3f} "
        f"L{left + r:.3f} {bottom:.3f} Q{left:.3f} {bottom:.3f} {left:.3f} {bottom - r:.3f} "
        f"L{left:.3f} {top + r:.3f} Q{left:.3f} {top:.3f} {left + r:.3f} {top:.3f}"
    )
