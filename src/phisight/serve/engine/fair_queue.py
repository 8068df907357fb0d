"""Jobs that wait, one queue a client: whoever has the fewest in work is next, and nobody fills the room of all."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

from phisight.serve.engine.job import Job
from phisight.serve.protocol.api_error import ApiError


class FairQueue:
    """Bounded queues of clients; used from one thread.

    Args:
        most: Jobs that wait at once.
        share: Most choices of one client in work.
    """

    def __init__(self, most: int, share: int) -> None:
        self._most, self._share = most, share
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self.in_work: Counter[str] = Counter()
        """Choices of each client between queue and last token."""

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._waiting.values())

    def put(self, job: Job, seconds_each: float) -> None:
        """Wait; ApiError 429 where there is no room, with a guess when there will be."""
        mine = self._waiting.get(job.client, ())
        for waiting, most in ((len(mine), max(1, self._most // 2)), (len(self), self._most)):
            if waiting >= most:
                raise ApiError(
                    429,
                    f"{waiting} requests wait already, {most} at most; try again later",
                    code="queue_full",
                    retry_s=min(60.0, 1 + waiting * seconds_each),
                )
        self._waiting.setdefault(job.client, deque()).append(job)

    def next(self) -> Job | None:
        """The oldest job of the client with the fewest choices in work; of equals, the one served longest ago."""
        able = [
            client
            for client, jobs in self._waiting.items()
            if not self.in_work[client] or self.in_work[client] + len(jobs[0].decodings) <= self._share
        ]
        if not able:
            return None
        client = min(able, key=lambda one: self.in_work[one])
        jobs = self._waiting.pop(client)
        job = jobs.popleft()
        if jobs:
            self._waiting[client] = jobs  # behind the others
        self.in_work[client] += len(job.decodings)
        return job

    def remove(self, job: Job) -> bool:
        """Take a job out that waits; whether it did."""
        jobs = self._waiting.get(job.client)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del self._waiting[job.client]
        return True

    def done(self, client: str, choices: int) -> None:
        """Choices of a client are no longer in work."""
        self.in_work[client] -= choices
        if self.in_work[client] <= 0:
            del self.in_work[client]

    def drain(self) -> list[Job]:
        """Every job that waits, taken out."""
        jobs = [job for waiting in self._waiting.values() for job in waiting]
        self._waiting.clear()
        return jobs
