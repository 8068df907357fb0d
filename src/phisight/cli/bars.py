"""Progress bars of long work: drawing, training, answering."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.progress import Progress


class Bar:
    """One progress bar that appears when it is first told of something."""

    def __init__(self, progress: Progress, name: str, total: int | None = None, unit: str = "") -> None:
        self._progress = progress
        self._name = name
        self._total = total
        self._unit = unit
        self._task: Any = None
        self._began = (0.0, 0)

    def reach(self, done: int, every: int) -> None:
        """``done`` of ``every``."""
        if self._task is None:
            self._began = (time.monotonic(), done)  # what an earlier process had done does not count as fast
        self._show()
        self._progress.update(self._task, completed=done, total=every, note=self._speed(done))

    def _speed(self, done: int) -> str:
        seconds, more = time.monotonic() - self._began[0], done - self._began[1]
        return f"{more / seconds:.1f} {self._unit}" if self._unit and more and seconds > 0 else ""

    def advance(self, more: int) -> None:
        """So many more."""
        self._show()
        self._progress.advance(self._task, more)

    def _show(self) -> None:
        if self._task is None:
            self._task = self._progress.add_task(self._name, total=self._total, note="")


class AnswerBars:
    """A bar for each kind of pictures."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, Bar] = {}

    def __call__(self, kind: str, done: int, every: int) -> None:
        """``done`` of ``every`` answers."""
        if kind not in self._bars:
            name = "before training" if kind == "before" else f"{kind} pictures"
            self._bars[kind] = Bar(self._progress, name, unit="answers/s")
        self._bars[kind].reach(done, every)


class TrainingBar:
    """Steps, loss and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: Any = None

    def begin(self, steps: int) -> None:
        """See ``Watcher``."""
        self._task = self._progress.add_task("training", total=steps, note="")

    def step(self, step: int) -> None:
        """See ``Watcher``."""
        self._progress.update(self._task, completed=step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See ``Watcher``."""
        name = next((name for name in ("loss", "eval_loss") if name in metrics), None)
        if name and step:
            self._progress.update(self._task, note=f"{name.replace('_', ' ')} {metrics[name]:.3f}")
