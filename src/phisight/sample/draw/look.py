"""What a drawing function may vary on: everything here is visible in the image."""

from __future__ import annotations

from dataclasses import dataclass

from phisight.sample.draw.outline import Points, flip
from phisight.sample.draw.sketch import Color, Light, Sketch, Surface


@dataclass(frozen=True)
class Look:
    """One design, as the drawing functions see it."""

    size: float = 0.5
    """0 shortest or smallest, 1 longest or largest."""
    style: int = 0
    """Which of the small variations of the kind (0, 1 or 2)."""
    ink: Color = (40, 40, 40)
    """Seams and contours: dark on pale cloth, darker on dark cloth."""
    thread: Color = (220, 200, 160)
    """Top stitches."""
    lining: Color = (90, 80, 70)
    metal: Color = (200, 165, 80)
    """Buckles, zips, buttons: gold, silver or black."""

    def between(self, small: float, large: float) -> float:
        """A measure that grows with the size."""
        return small + (large - small) * self.size


def pair(
    s: Sketch, right: Points, surface: Surface | Color = "main", *, angle: float = 0.0, light: Light = "round"
) -> None:
    """A part and its mirror image; the pattern turns the other way on the left."""
    s.fill(flip(right), surface, angle=-angle, light=light)
    s.fill(right, surface, angle=angle, light=light)


def seams(
    s: Sketch, right: Points, color: Color, width: float = 0.4, *, opacity: float = 0.7, dash: float = 0.0
) -> None:
    """A stroke and its mirror image."""
    s.line(right, color, width, opacity=opacity, dash=dash)
    s.line(flip(right), color, width, opacity=opacity, dash=dash)


def folds(s: Sketch, right: Points, width: float = 1.6, strength: float = 1.0) -> None:
    """A crease and its mirror image."""
    s.fold(right, width, strength)
    s.fold(flip(right), width, strength)
