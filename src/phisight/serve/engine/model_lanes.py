"""Several threads over one model, each on a core of its own: what ``generate/lanes.py`` is to bulk prediction.

encoded jobs --to whoever has the fewest answers in the making--> thread 1: prompts, steps on one core
                                                                 thread 2: ...
"""

from __future__ import annotations

from collections.abc import Callable

from phisight.serve.engine.image_workers import Encoded
from phisight.serve.engine.job import Job
from phisight.serve.engine.model_thread import ModelThread, SideWork


class ModelLanes:
    """Threads that share the jobs; used on the event loop. All choices of a job are written by one of them.

    Args:
        make: A thread that has not started.
        lanes: How many.
    """

    def __init__(self, make: Callable[[], ModelThread], lanes: int) -> None:
        self._lanes = [make() for _ in range(lanes)]
        self._jobs: list[set[Job]] = [set() for _ in range(lanes)]

    def start(self) -> None:
        """Begin to work."""
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """End after the steps that run; what is not answered fails with 503."""
        for lane in self._lanes:
            lane.stop()

    def put(self, job: Job, encoded: Encoded) -> None:
        """Answer a job on the lane with the fewest choices in work."""
        for jobs in self._jobs:
            jobs.difference_update([one for one in jobs if not one.open_choices])
        choices = [sum(one.open_choices for one in jobs) for jobs in self._jobs]
        lane = choices.index(min(choices))
        self._jobs[lane].add(job)
        self._lanes[lane].put(job, encoded)

    def cancel(self, job: Job) -> None:
        """Free the rows of a job before the next step."""
        for lane, jobs in zip(self._lanes, self._jobs, strict=True):
            if job in jobs:
                jobs.remove(job)
                lane.cancel(job)

    def beside(self, work: SideWork) -> None:
        """Do work between the steps of answers, on the first lane."""
        self._lanes[0].beside(work)
