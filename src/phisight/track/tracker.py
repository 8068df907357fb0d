"""What a tracker is: five calls, made during training and evaluation; and several trackers as one.

start -> log | log_examples | log_pairs (any number, in any order) -> finish
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

WANDB_ID, MLFLOW_ID = "wandb.json", "mlflow.json"
"""Files of a run folder in which adapters keep the id of the run they continue."""

_LOG = logging.getLogger(__name__)


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


class CompositeTracker:
    """Hands every call to each tracker.

    [Contract] An error of ``local``, where there is one, is raised (the run folder cannot be written). An error of any
    other tracker is logged once, with the tracker's name, and that tracker gets no further calls.
    """

    def __init__(self, local: Tracker | None, others: Mapping[str, Tracker]) -> None:
        self._local = local
        self._others = dict(others)

    @property
    def active(self) -> list[str]:
        """Names of the other trackers that still take calls."""
        return list(self._others)

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Open the run in every tracker."""
        self._each(lambda tracker: tracker.start(run_dir, config))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add figures at a step."""
        self._each(lambda tracker: tracker.log(step, metrics))

    def log_examples(self, step: int, rows: Sequence[Example], group: str = "") -> None:
        """Add a table of images with truth and answer."""
        self._each(lambda tracker: tracker.log_examples(step, rows, group))

    def log_pairs(self, step: int, pairs: Pairs) -> None:
        """Add a confusion matrix or a scatter."""
        self._each(lambda tracker: tracker.log_pairs(step, pairs))

    def finish(self, summary: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        """Close the run in every tracker."""
        self._each(lambda tracker: tracker.finish(summary, artifacts))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        if self._local is not None:
            call(self._local)
        for name, tracker in list(self._others.items()):
            try:
                call(tracker)
            except Exception as error:  # whatever a foreign client raises must not stop training
                del self._others[name]
                _LOG.warning(
                    "tracker %s failed (%s: %s) and gets no further calls; the run folder has everything",
                    name,
                    type(error).__name__,
                    " ".join(str(error).split())[:200],
                )
