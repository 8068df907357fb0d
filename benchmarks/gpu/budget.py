"""The time that a run may take, divided among its parts; what no longer fits is left out with a word."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Budget:
    """Seconds of a run; each part gets its share of what is left, by weight."""

    def __init__(self, seconds: float, weights: Mapping[str, float]) -> None:
        self._ends = time.monotonic() + seconds
        self._weights = dict(weights)
        self._part_ends = self._ends

    def left(self) -> float:
        """Seconds left of the run."""
        return self._ends - time.monotonic()

    def begin(self, part: str) -> float:
        """Start a part; returns the seconds it may take. What an earlier part did not use is shared by the rest."""
        share = self._weights.pop(part)
        given = max(0.0, self.left()) * share / (share + sum(self._weights.values()))
        self._part_ends = time.monotonic() + given
        return given

    def part_left(self) -> float:
        """Seconds left of the part."""
        return self._part_ends - time.monotonic()

    def lacks(self, needed: float) -> str | None:
        """Why something that takes ``needed`` seconds has to be left out; none: it fits."""
        left = self.part_left()
        return None if needed <= left else f"needs about {needed:.0f} s, {max(0.0, left):.0f} s of the part are left"
