"""The engine, on the event loop: jobs in, events out.

submit -> fair queue --as room is made--> workers encode --> model thread --> events
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from phisight.generate import NumberWriter
from phisight.serve.engine.fair_queue import FairQueue
from phisight.serve.engine.image_workers import ImageWorkers
from phisight.serve.engine.job import Ended, Event, Failed, Job
from phisight.serve.engine.measurements import Measurements
from phisight.serve.engine.model_thread import ModelThread, SideWork
from phisight.serve.protocol.api_error import shutting_down


class Engine:
    """Answers jobs with a model.

    Args:
        model: See ``Scheduler``.
        processor: Its processor.
        workers: Encode requests.
        measurements: Gets figures.
        numbers: Decides which numbers an answer carries.
        max_sequences: Answers in the making at once.
        max_queue: Requests that wait.
        pooled: Whether answers bring the tower's pooled features.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        workers: ImageWorkers,
        measurements: Measurements,
        *,
        numbers: NumberWriter | None = None,
        max_sequences: int = 16,
        max_queue: int = 256,
        pooled: bool = False,
    ) -> None:
        self.max_sequences = max_sequences
        self._workers, self._measurements = workers, measurements
        share = max(1, max_sequences - max_sequences // 4)
        self._ahead = max(2, max_sequences // 2) + workers.width
        self._queue = FairQueue(max_queue, share + self._ahead // 2)
        self._thread = ModelThread(
            model,
            processor,
            numbers,
            max_sequences=max_sequences,
            share=share,
            measurements=measurements,
            pooled=pooled,
            deliver=self._events_from_thread,
        )
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._seconds_each = 1.0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin to work; called on the event loop that jobs come from."""
        self._loop = asyncio.get_running_loop()
        await self._workers.warm()
        self._thread.start()

    async def stop(self) -> None:
        """End; what is not answered fails with 503."""
        self._stopping = True
        for job in self._queue.drain():
            job.events.put_nowait(Failed(shutting_down()))
        await asyncio.to_thread(self._thread.stop)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.to_thread(self._workers.close)

    @property
    def load(self) -> tuple[int, int]:
        """Requests that wait, and choices in work."""
        return len(self._queue), self._queue.in_work.total()

    def submit(self, job: Job) -> None:
        """Take a job; its events come until each choice has ended. ApiError 429 where the queue is full."""
        if self._stopping:
            raise shutting_down()
        self._queue.put(job, self._seconds_each / self.max_sequences)
        self._dispatch()

    def cancel(self, job: Job) -> None:
        """Nobody waits for a job any more: its rows are free before the next step."""
        if job.cancelled or not job.open_choices:
            return
        job.cancelled = True
        if self._queue.remove(job):
            self._measurements.waiting.set(len(self._queue))
            return
        self._thread.cancel(job)
        self._release(job, job.open_choices)

    def beside(self, work: SideWork) -> None:
        """Do work between the steps of answers."""
        self._thread.beside(work)

    def _dispatch(self) -> None:
        """Send jobs to the workers while there is room."""
        while not self._stopping and self._queue.in_work.total() < self.max_sequences + self._ahead:
            job = self._queue.next()
            if job is None:
                break
            task = asyncio.get_running_loop().create_task(self._encode(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._measurements.waiting.set(len(self._queue))

    async def _encode(self, job: Job) -> None:
        try:
            encoded = await self._workers.encode(job.turns, job.images)
        except Exception as error:
            if not job.cancelled:
                self._fail(job, error)
            return
        if job.cancelled:
            return
        if job.images:
            self._measurements.decode_s.observe(encoded.decode_s)
        job.prompt_tokens = int(encoded.arrays["input_ids"].shape[1])
        self._thread.put(job, encoded)

    def _events_from_thread(self, events: list[tuple[Job, Event]]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._deliver, events)

    def _deliver(self, events: list[tuple[Job, Event]]) -> None:
        for job, event in events:
            if job.cancelled or not job.open_choices:
                continue
            if isinstance(event, Failed):
                self._fail(job, event.error)
                continue
            if isinstance(event, Ended):
                self._release(job, 1)
            job.events.put_nowait(event)

    def _fail(self, job: Job, error: Exception) -> None:
        job.events.put_nowait(Failed(error))
        self._release(job, job.open_choices)

    def _release(self, job: Job, choices: int) -> None:
        """Choices are no longer in work; others may follow."""
        job.open_choices -= choices
        if choices:
            self._queue.done(job.client, choices)
        if not job.open_choices:
            self._seconds_each += 0.1 * (time.monotonic() - job.created - self._seconds_each)
        self._dispatch()
