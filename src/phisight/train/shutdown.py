"""Graceful shutdown: on a signal the step is finished and a checkpoint saved, then the run ends with the exit code.

A second signal, or a step that does not end within ``GRACE_SECONDS``, ends the run at once; the newest checkpoint
remains.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from phisight.core.errors import StoppedError
from phisight.train.distributed.process_group import any_rank

GRACE_SECONDS = 25.0
"""Cluster schedulers kill 30 seconds after SIGTERM."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class GracefulShutdown:
    """Handles SIGTERM and SIGINT inside its block (in the main thread; in another one signals are not handled)."""

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self.received: int | None = None
        """Signal that this process received."""
        self.agreed = False
        """Every rank stops after this step."""
        self._grace = grace
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, handler in [*((one, self._request) for one in SIGNALS), (signal.SIGALRM, self._abort)]:
                self._previous[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether any rank was asked to stop; called by every rank after each step."""
        self.agreed = any_rank(self.received is not None)
        if self.agreed and self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)  # the step has ended in time; saving may take longer
        return self.agreed

    def stopped(self, saved: str) -> StoppedError:
        """The error that ends the run after ``saved``."""
        number = self.received or signal.SIGTERM
        return StoppedError(f"stopped by {signal.Signals(number).name}: {saved}", number)

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            raise self.stopped(
                "second signal, so nothing more is saved; continue from the newest checkpoint with --resume"
            )
        self.received = number
        signal.setitimer(signal.ITIMER_REAL, self._grace)

    def _abort(self, _number: int, _frame: FrameType | None) -> None:
        raise self.stopped(
            f"the step did not end within {self._grace:g} s, so nothing more is saved; continue from the newest "
            "checkpoint with --resume"
        )


def worker_signals(_worker: int) -> None:
    """Data loading workers leave Ctrl-C to the training process, and end when they are terminated."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
