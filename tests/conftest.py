"""Threads that sleep while they wait, and markers that mean what they say.

``make test-fast`` leaves out what is marked ``process`` or ``slow``. So a test without these marks may start no
process, kill none and train fewer than 50 steps; one that does fails here, in every run.
"""

import multiprocessing.process
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

# Before torch is imported: threads that spin while they wait fight over cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

MOST_STEPS = 49
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}


class Watch:
    """What the running test has done that its marks must name."""

    def __init__(self) -> None:
        self.test: pytest.Item | None = None
        self.started = ""
        self.steps = 0
        self.counting = False

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python for every audited event; signal 0 only asks whether a process lives, git answers at once."""
        if self.test is None or (event == "subprocess.Popen" and arguments[1][0] == "git"):
            return
        if event in STARTS or (event == "os.kill" and arguments[1]):
            self.started = self.started or event

    def count_steps(self) -> None:
        """Count the steps of torch's optimizers, once torch is there."""
        optimizer = sys.modules.get("torch.optim.optimizer")
        if optimizer is not None and not self.counting:
            optimizer.register_optimizer_step_post_hook(self._step)
            self.counting = True

    def _step(self, *_: Any) -> None:
        self.steps += 1

    def unmarked(self, marks: set[str]) -> str | None:
        """Why these marks do not say what the test did; None where they do."""
        if self.started and "process" not in marks:
            return f"the test starts or kills a process ({self.started}): mark it with pytest.mark.process"
        if self.steps > MOST_STEPS and "slow" not in marks:
            return f"the test trains {self.steps} steps, over {MOST_STEPS}: mark it with pytest.mark.slow"
        return None


WATCH = Watch()
sys.addaudithook(WATCH.audit)


@pytest.fixture(scope="session", autouse=True)
def _multiprocessing_is_watched() -> Iterator[None]:
    """Processes that a fork server or ``spawn`` starts are not audited by Python."""
    original = multiprocessing.process.BaseProcess.start

    def start(self: multiprocessing.process.BaseProcess) -> None:
        WATCH.audit("os.spawn", ())
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing.process.BaseProcess, "start", start)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """From the fixtures on."""
    WATCH.test, WATCH.started, WATCH.steps = item, "", 0
    WATCH.count_steps()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that passed fails all the same where its marks do not say what it did."""
    WATCH.count_steps()
    result = yield
    reason = WATCH.unmarked({mark.name for mark in item.iter_markers()})
    WATCH.test = None
    if reason:
        pytest.fail(reason, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Ending what a fixture of the session started is nobody's start."""
    WATCH.test = None
    return (yield)
