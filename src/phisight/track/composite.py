"""Several trackers as one; a tracker that fails is named and left out, the work goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from phisight.track.tracker import Example, Pairs, Tracker

_LOG = logging.getLogger(__name__)


class CompositeTracker:
    """Hands every call to each tracker.

    [Contract] An error of ``local``, where there is one, is raised (the run folder cannot be written: nobody wants to
    train on). An error of any other tracker is logged once, with the tracker's name, and that tracker gets no further
    calls.
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
                    "tracker %s failed (%s: %s) and gets nothing more now; the run folder keeps everything",
                    name,
                    type(error).__name__,
                    " ".join(str(error).split())[:200],
                )
