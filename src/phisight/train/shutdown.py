"""A signal asks training to stop: the step is finished, a checkpoint saved, and the run ends saying how to go on.

A second signal, or a step that does not end within ``GRACE_SECONDS``, ends the run at once; the newest checkpoint
stands.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from phisight.core.errors import StoppedError
from phisight.train.distributed.process_group import any_rank

GRACE_SECONDS = 25.0
"""Schedulers kill 30 seconds after they have asked."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Listens for SIGTERM and SIGINT while it is entered (in the main thread; elsewhere signals are not ours)."""

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self.received: int | None = None
        """Signal that this process got."""
        self.agreed = False
        """Every process stops after this step."""
        self._grace = grace
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, handler in [*((one, self._ask) for one in SIGNALS), (signal.SIGALRM, self._give_up)]:
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def step_ended(self) -> bool:
        """Called by every process after each step: whether any of them was asked to stop."""
        self.agreed = any_rank(self.received is not None)
        if self.agreed and self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)  # the step came to its end in time; saving may take what it takes
        return self.agreed

    def stopped(self, saved: str) -> StoppedError:
        """The error that ends the run after ``saved``."""
        number = self.received or signal.SIGTERM
        return StoppedError(f"stopped by {signal.Signals(number).name}: {saved}", number)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            raise self.stopped(
                "asked twice, so nothing more is saved; continue from the newest checkpoint with --resume"
            )
        self.received = number
        signal.setitimer(signal.ITIMER_REAL, self._grace)

    def _give_up(self, _number: int, _frame: FrameType | None) -> None:
        raise self.stopped(
            f"the step did not end within {self._grace:g} s, so nothing more is saved; continue from the newest "
            "checkpoint with --resume"
        )


class StopAfterStep(TrainerCallback):
    """Turns a request to stop into a checkpoint and an end, at the same step in every process."""

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Between two steps nothing is half done."""
        if self._stopping.step_ended():
            control.should_save = True  # the run ends when it is saved: see DurableTrainer


def worker_signals(_worker: int) -> None:
    """Processes that prepare images leave Ctrl-C to the training process, and end when they are told to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
