"""Steps of the scheduler that wait for the test: no answer can end by itself meanwhile."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phisight.generate.completions import Completion
from phisight.generate.scheduler import Scheduler


class HeldSteps:
    """Each step of each scheduler takes one permit.

    Attributes:
        rows: For each step that was begun the requests it had rows for.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.rows: list[set[int]] = []
        self._permits = threading.Semaphore(0)
        self._open = False
        original = Scheduler.step

        def step(scheduler: Scheduler) -> list[Completion]:
            self.rows.append({row.prepared.index for row in scheduler.writing})
            if not self._open:
                self._permits.acquire()
            return original(scheduler)

        patch.setattr(Scheduler, "step", step)

    def permit(self) -> None:
        """Let one step run."""
        self._permits.release()

    def release(self) -> None:
        """Let every step run from now on."""
        self._open = True
        self._permits.release()


@contextmanager
def held_steps() -> Iterator[HeldSteps]:
    """Steps wait inside of the block."""
    with pytest.MonkeyPatch.context() as patch:
        steps = HeldSteps(patch)
        try:
            yield steps
        finally:
            steps.release()


HOLD_UNTIL = """
import pathlib, runpy, sys, time
from phisight.generate.scheduler import Scheduler
flag, original = pathlib.Path(sys.argv.pop(1)), Scheduler.step
def step(scheduler):
    if flag.exists():
        return original(scheduler)
    time.sleep(0.02)
    return []
Scheduler.step = step
runpy.run_module("phisight", run_name="__main__", alter_sys=True)
"""
"""A program: phisight, whose scheduler gives no token before a file exists (the first argument)."""


def command_until(flag: Path) -> list[str]:
    """``python -m phisight`` whose answers go on when the file ``flag`` is there."""
    return [sys.executable, "-c", HOLD_UNTIL, str(flag)]
