"""The thread that owns the model: requests join between steps, every answer gets a token a step."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from phisight.generate import NumberWriter, Request, token_bytes
from phisight.generate.completions import Completion
from phisight.generate.decoding.vocabulary import end_ids
from phisight.generate.prepare import Prepared
from phisight.generate.scheduler import Scheduler
from phisight.serve.engine.image_workers import Encoded
from phisight.serve.engine.job import Ended, Event, Failed, Job
from phisight.serve.engine.measurements import Measurements
from phisight.serve.engine.writing import Writing
from phisight.serve.protocol.api_error import ApiError, name_and_place, shutting_down

_LOG = logging.getLogger("phisight.serve")

STEPS_OF_PATIENCE = 3
"""Steps that a request waits at most for others to join with, where nearly all rows are taken."""

Events = list[tuple[Job, Event]]


@dataclass(eq=False)
class SideWork:
    """Work beside answers, a bounded piece at a time between two steps (an occlusion map)."""

    pieces: Iterator[Any]
    deliver: Callable[[Any], None]
    """Called on the engine's thread with each piece's result, at last with None, or with an exception."""
    cancelled: bool = False


class ModelThread:
    """Answers encoded jobs.

    Args:
        model: See ``Scheduler``; used by this thread alone.
        processor: Its processor.
        numbers: Decides which numbers an answer carries.
        max_sequences: Answers in the making at once.
        share: Most of them for one client.
        measurements: Gets figures.
        deliver: Called on the thread with events.
        pooled: Whether completions bring the tower's pooled features.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        numbers: NumberWriter | None,
        *,
        max_sequences: int,
        share: int,
        measurements: Measurements,
        deliver: Callable[[Events], None],
        pooled: bool = False,
    ) -> None:
        self._model, self._processor, self._numbers = model, processor, numbers
        self._max_sequences, self._share = max_sequences, share
        self._measurements, self._deliver, self._pooled = measurements, deliver, pooled
        self._pieces = token_bytes(processor.tokenizer)
        self._ends = set(end_ids(model))
        self._scheduler = self._new_scheduler()
        self._condition = threading.Condition()
        self._ready: list[tuple[Job, Encoded]] = []
        self._cancelled: set[Job] = set()
        self._side: deque[SideWork] = deque()
        self._stopping = False
        self._writing: dict[int, Writing] = {}
        self._number = 0
        self._patience = STEPS_OF_PATIENCE
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, seconds: float = 30) -> None:
        """End after the step that runs; what is not answered fails with 503."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def put(self, job: Job, encoded: Encoded) -> None:
        """Answer a job when there is a row for it."""
        with self._condition:
            self._ready.append((job, encoded))
            self._condition.notify()

    def cancel(self, job: Job) -> None:
        """Free the rows of a job before the next step."""
        with self._condition:
            self._cancelled.add(job)
            self._condition.notify()

    def beside(self, work: SideWork) -> None:
        """Do work between the steps of answers."""
        with self._condition:
            self._side.append(work)
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._ready or self._writing or self._side or self._stopping or self._cancelled):
                    self._condition.wait()
                if self._stopping:
                    break
                cancelled, self._cancelled = self._cancelled, set()
                self._ready = [pair for pair in self._ready if pair[0] not in cancelled]
            self._forget(cancelled)
            try:
                self._work()
            except Exception as error:
                self._recover(error)
            self._beside()
        self._send([(job, Failed(shutting_down())) for job in {one.job for one in self._writing.values()}])
        self._send([(job, Failed(shutting_down())) for job, _ in self._ready])
        for work in self._side:
            work.deliver(shutting_down())

    def _work(self) -> None:
        """New requests join, and every answer gets a token."""
        joining = self._joining()
        events: Events = []
        if joining:
            self._report(self._scheduler.join(joining), events)
        if self._writing:
            self._measurements.batch.observe(len(self._writing))
            begin = time.perf_counter()
            completions = self._scheduler.step()
            self._measurements.step_s.observe(time.perf_counter() - begin)
            self._report(completions, events)
        self._measurements.in_work.set(len(self._writing))
        self._send(events)

    def _joining(self) -> list[Prepared]:
        """Requests whose rows are free, of the clients with the fewest answers in the making first."""
        rows = Counter(one.job.client for one in self._writing.values())
        joining: list[Prepared] = []
        room = self._scheduler.free
        most = max(1, self._max_sequences // 4)  # others wait while prompts are read
        # A prompt that joins alone costs as much as several that join together.
        if self._writing and 0 < room < most and self._patience:
            self._patience -= 1
            return []
        self._patience = STEPS_OF_PATIENCE
        with self._condition:
            while self._ready and room and len(joining) < most:
                job, encoded = pair = min(self._ready, key=lambda one: rows[one[0].client])
                count = len(job.decodings)
                if count > room or (rows[job.client] and rows[job.client] + count > self._share):
                    break
                self._ready.remove(pair)
                room -= count
                rows[job.client] += count
                joining += self._prepared(job, encoded)
        return joining

    def _prepared(self, job: Job, encoded: Encoded) -> list[Prepared]:
        found = []
        self._measurements.queue_s.observe(time.monotonic() - job.created)
        self._measurements.tokens.labels("prompt").inc(job.prompt_tokens)
        for choice, decoding in enumerate(job.decodings):
            self._number += 1
            self._writing[self._number] = Writing(job, choice, self._processor.tokenizer, self._pieces)
            request = Request("", [_already_encoded] * len(job.images))
            found.append(Prepared(self._number, request, encoded.tensors(), decoding=decoding))
        return found

    def _report(self, completions: list[Completion], events: Events) -> None:
        """Events of what was written since the last time."""
        stopped: set[int] = set()
        for row in self._scheduler.writing:
            writing = self._writing[row.prepared.index]
            self._note_first(writing)
            event = writing.proceed(row)
            if event is not None:
                events.append((writing.job, event))
            if isinstance(event, Ended):
                stopped.add(row.prepared.index)
                del self._writing[row.prepared.index]
        if stopped:
            self._scheduler.cancel(stopped)
        for completion in completions:
            writing = self._writing.pop(completion.index)
            self._note_first(writing)
            self._measurements.tokens.labels("answer").inc(len(completion.ids))
            events.append((writing.job, writing.end(completion, self._ends)))

    def _note_first(self, writing: Writing) -> None:
        if not writing.begun:
            self._measurements.first_token_s.observe(time.monotonic() - writing.job.created)

    def _forget(self, cancelled: set[Job]) -> None:
        gone = {number for number, writing in self._writing.items() if writing.job in cancelled}
        if gone:
            self._scheduler.cancel(gone)
            for number in gone:
                del self._writing[number]

    def _recover(self, error: Exception) -> None:
        """The model failed: what it was writing has no answer, what waits has."""
        _LOG.error("the model failed: %s", name_and_place(error))
        jobs = {one.job for one in self._writing.values()}
        self._writing.clear()
        self._scheduler = self._new_scheduler()
        failed = ApiError(500, f"the model failed ({type(error).__name__}); try again", code="model_failed")
        self._send([(job, Failed(failed)) for job in jobs])

    def _beside(self) -> None:
        """One piece of side work; its error goes to whoever waits for it, and into the log."""
        with self._condition:
            work = self._side.popleft() if self._side else None
        if work is None or work.cancelled:
            return
        try:
            result = next(work.pieces, None)
        except Exception as error:
            _LOG.error("work beside answers failed: %s", name_and_place(error))
            result = error
        work.deliver(result)
        if result is not None and not isinstance(result, Exception):
            with self._condition:
                self._side.append(work)

    def _send(self, events: Events) -> None:
        if events:
            self._deliver(events)

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(
            self._model,
            self._processor,
            max_sequences=self._max_sequences,
            numbers=self._numbers,
            numbers_at_once=1,
            pooled=self._pooled,
        )


def _already_encoded() -> Any:
    raise AssertionError("images of a served request come as tensors")
