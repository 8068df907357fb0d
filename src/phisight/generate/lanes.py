"""Several schedulers side by side on a CPU: each on a core of its own, over the same weights.

    requests --whoever is free--> lane 1: prompts, steps on one core --> completions, in any order
                                  lane 2: ...

The steps of a small model are too short to be shared among cores: threads that wait for each other at every layer take
longer than one alone, and stand still when another process needs a core. A lane waits for nobody. For a large model,
whose weights go through memory once a step, one lane on all cores is the better one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch

from phisight.core.errors import ImageError
from phisight.generate.completions import Completion
from phisight.generate.requests import Request
from phisight.generate.scheduler import Scheduler

SMALL = 50_000_000
"""Most parameters of a model that lanes are worth it for: its weights stay in the processor's caches."""
_END = object()


def lanes_for(model: Any, requests: int) -> int:
    """How many lanes: one for each thread of torch on a CPU, where the model is small and there is enough to do."""
    return max(1, min(torch.get_num_threads(), requests // 8)) if stays_in_caches(model) else 1


def stays_in_caches(model: Any) -> bool:
    """Whether a model is small enough for the processor's caches, on a CPU."""
    return bool(model.device.type == "cpu" and sum(one.numel() for one in model.parameters()) <= SMALL)


def run_lanes(
    make: Callable[[], Scheduler], requests: Iterable[tuple[int, Request]], lanes: int
) -> Iterator[Completion | tuple[int, ImageError]]:
    """Completions of numbered requests, and the errors of those whose image cannot be used, as they come.

    [Contract] While it runs with more than one lane, torch has one thread; memory does not grow with the requests.

    Args:
        make: A scheduler for one lane; its model is not changed by others meanwhile.
        requests: Read only as far as they are needed.
        lanes: How many.
    """
    if lanes == 1:
        yield from _alone(make(), requests)
        return
    work = _Lanes(make, requests, lanes)
    threads = [threading.Thread(target=work.run, name="lane", daemon=True) for _ in range(lanes)]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for thread in threads:
        thread.start()
    try:
        yield from work.found(lanes)
    finally:
        work.stopped.set()
        while any(thread.is_alive() for thread in threads):
            with suppress(queue.Empty):
                work.results.get(timeout=0.05)  # whoever waits for room gets it
        torch.set_num_threads(before)


def _alone(
    scheduler: Scheduler, requests: Iterable[tuple[int, Request]]
) -> Iterator[Completion | tuple[int, ImageError]]:
    """The same with one scheduler, in this thread."""
    failures: list[tuple[int, ImageError]] = []
    for completion in scheduler.run(requests, on_failure=lambda index, error: failures.append((index, error))):
        yield from failures
        failures.clear()
        yield completion
    yield from failures


class _Lanes:
    """What lanes share: the requests that are left, and a queue of what was found."""

    def __init__(self, make: Callable[[], Scheduler], requests: Iterable[tuple[int, Request]], lanes: int) -> None:
        self._make, self._requests = make, iter(requests)
        self._taking = threading.Lock()
        self.results: queue.Queue[Any] = queue.Queue(maxsize=64 * lanes)
        self.stopped = threading.Event()

    def run(self) -> None:
        """One lane, to its end."""
        try:
            torch.set_num_threads(1)  # of this thread
            answers = self._make().run(self._taken(), on_failure=lambda index, error: self.results.put((index, error)))
            for completion in answers:
                self.results.put(completion)
                if self.stopped.is_set():
                    break
            answers.close()  # type: ignore[attr-defined]
        except BaseException as error:
            self.results.put(error)
        finally:
            self.results.put(_END)

    def _taken(self) -> Iterator[tuple[int, Request]]:
        while not self.stopped.is_set():
            with self._taking:
                one = next(self._requests, None)
            if one is None:
                return
            yield one

    def found(self, lanes: int) -> Iterator[Completion | tuple[int, ImageError]]:
        """What lanes put into the queue; the first error that concerns all requests is raised."""
        while lanes:
            one = self.results.get()
            if one is _END:
                lanes -= 1
            elif isinstance(one, BaseException):
                raise one
            else:
                yield one
