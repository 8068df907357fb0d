"""A sketch: what to draw, back to front, in box units; nothing is painted yet.

The scene needs the silhouette before the first pixel (for the shadow), and one sketch serves every image size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from phisight.sample.draw.outline import Points

Color = tuple[int, int, int]
Light = Literal["round", "flat", "ball"]
Surface = Literal["main", "trim"]


@dataclass(frozen=True)
class Fill:
    """A closed part cut from cloth (``surface``) or of one plain color."""

    points: Points
    surface: Surface | Color = "main"
    light: Light = "round"
    angle: float = 0.0  # degrees by which the pattern is turned on this part
    edge: float = 0.45  # strength of the contour, 0 to 1
    shade: float = 1.0  # below 1: darker than the cloth (linings, far sides)
    solid: bool = True  # part of the silhouette that casts a shadow


@dataclass(frozen=True)
class Line:
    """Strokes of one color and width (box units); ``dash`` gives stitches."""

    points: Points
    color: Color
    width: float = 0.5
    opacity: float = 1.0
    dash: float = 0.0
    solid: bool = False


@dataclass
class Sketch:
    """Parts back to front."""

    parts: list[Fill | Line] = field(default_factory=list)

    def fill(
        self,
        points: Points,
        surface: Surface | Color = "main",
        *,
        light: Light = "round",
        angle: float = 0.0,
        edge: float = 0.45,
        shade: float = 1.0,
        solid: bool = True,
    ) -> None:
        """Add a part."""
        self.parts.append(Fill(points, surface, light, angle, edge, shade, solid))

    def line(
        self,
        points: Points,
        color: Color,
        width: float = 0.5,
        *,
        opacity: float = 1.0,
        dash: float = 0.0,
        solid: bool = False,
    ) -> None:
        """Add a stroke."""
        self.parts.append(Line(points, color, width, opacity, dash, solid))

    def fold(self, points: Points, width: float = 1.6, strength: float = 1.0) -> None:
        """A soft crease: dark, with a lighter rim beside it."""
        for share, opacity in ((1.0, 0.07), (0.6, 0.15), (0.25, 0.27)):
            self.parts.append(Line(points, (0, 0, 0), width * share, opacity * strength))
        self.parts.append(Line(points + 0.55 * width, (255, 255, 255), width * 0.5, 0.09 * strength))
