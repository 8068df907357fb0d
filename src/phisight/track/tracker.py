"""What a tracker is: five calls, made by whoever trains or evaluates.

start -> log | log_examples | log_pairs (any number, in any order) -> finish
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Example:
    """One image with the answer that was wanted and the one that was given."""

    key: str
    """Names the product."""
    image: bytes
    """The image as JPEG, small enough to look at many (a thumbnail)."""
    truth: str
    answer: str


@dataclass(frozen=True)
class Pairs:
    """Truth and answer of one field over many rows: a confusion matrix or a scatter."""

    field: str
    kind: Literal["category", "number"]
    truth: Sequence[str | float]
    predicted: Sequence[str | float]

    def __post_init__(self) -> None:
        if len(self.truth) != len(self.predicted):
            raise ValueError(
                f"field {self.field!r}: {len(self.truth)} truths but {len(self.predicted)} answers; hand in pairs"
            )


class Tracker(Protocol):
    """Where a run's figures go.

    [Contract] ``start`` comes first and once a process; a second process that starts on the same run folder continues
    the same run. ``step`` counts optimizer steps.
    """

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Open the run; ``config`` is the resolved recipe."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add figures at a step; names with a slash (``eval/loss``) are grouped by their first part."""

    def log_examples(self, step: int, rows: Sequence[Example], group: str = "") -> None:
        """Add a table of images with truth and answer; a ``group`` (``test``) keeps it apart from others."""

    def log_pairs(self, step: int, pairs: Pairs) -> None:
        """Add a confusion matrix (category) or a scatter of truth and answer (number)."""

    def finish(self, summary: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        """Close the run with its final figures and the files and folders that came out of it.

        ``artifacts`` by name: ``dataset`` is taken as an input of the run, everything else as its output.
        """
