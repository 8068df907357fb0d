"""Worker processes of the local engine: each runs ``obtain.run_jobs`` on jobs that come through a pipe.

The parent hands every worker a window of jobs, refills it as outcomes come back, and is the only one that writes the
journal. Workers end when their pipe does, so none outlives a parent that was killed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from phisight.core.errors import DataError
from phisight.data.fetch import FetchLimits
from phisight.data.journal import log_line, log_path
from phisight.data.obtain import ImageStore, Outcome, Settled, obtain_here, run_jobs, run_to_end
from phisight.data.references import Job

_ROWS_WORTH_A_PROCESS = 400


def obtain(jobs: Iterator[Job], store: ImageStore, settled: Settled, limits: FetchLimits, processes: int = 1) -> None:
    """Run every job and report each outcome, in any order, from the calling thread."""
    if processes <= 1:
        obtain_here(jobs, store, settled, limits)
    else:
        _Pool(processes, store, limits).run(jobs, settled)


def processes_for(rows: int | None) -> int:
    """How many processes a source is worth: one for each 400 rows (none: many), at most one a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if rows is None else max(1, min(cores, rows // _ROWS_WORTH_A_PROCESS))


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    jobs: dict[str, Job]


class _Pool:
    """Workers and the jobs each of them holds."""

    def __init__(self, count: int, store: ImageStore, limits: FetchLimits) -> None:
        share = replace(
            limits, connections=max(1, limits.connections // count), per_host=max(1, limits.per_host // count)
        )
        self.window = share.connections + 16
        context = multiprocessing.get_context("spawn")
        self.workers = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, store, share), daemon=True)
            process.start()
            theirs.close()
            self.workers.append(_Worker(process, ours, {}))

    def run(self, jobs: Iterator[Job], settled: Settled) -> None:
        """Feed the workers until every job is settled."""
        try:
            for worker in self.workers:
                self._refill(worker, jobs)
            while any(worker.jobs for worker in self.workers):
                by_pipe = {worker.pipe: worker for worker in self.workers if worker.jobs}
                for pipe in wait(list(by_pipe)):
                    worker = by_pipe[pipe]  # type: ignore[index]
                    self._receive(worker, settled)
                    self._refill(worker, jobs)
            for worker in self.workers:
                worker.pipe.send(None)
                worker.process.join()
        finally:
            for worker in self.workers:
                worker.pipe.close()
                worker.process.terminate()
                worker.process.join()

    def _refill(self, worker: _Worker, jobs: Iterator[Job]) -> None:
        while len(worker.jobs) < self.window and (job := next(jobs, None)) is not None:
            worker.jobs[job.token] = job
            worker.pipe.send(job)

    def _receive(self, worker: _Worker, settled: Settled) -> None:
        try:
            token, outcome = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            raise DataError(
                f"a worker process died (exit code {worker.process.exitcode}), perhaps for want of memory; nothing "
                "that was finished is lost: run the same command again"
            ) from None
        settled(worker.jobs.pop(token), outcome)


def _serve(pipe: Connection, store: ImageStore, limits: FetchLimits) -> None:
    """A worker process: jobs in, outcomes out, until the pipe says none or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    warnings.filterwarnings("ignore", module="PIL")  # remarks on damaged files; what matters is refused
    run_to_end(_work(pipe, store, limits))


async def _work(pipe: Connection, store: ImageStore, limits: FetchLimits) -> None:
    queue: asyncio.Queue[Job | None] = asyncio.Queue()

    def receive() -> None:
        try:
            while pipe.poll():
                queue.put_nowait(pipe.recv())
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone: nobody waits for outcomes

    async def next_job() -> Job | None:
        job = await queue.get()
        if job is None:
            queue.put_nowait(None)
        return job

    with log_path(store.folder, os.getpid()).open("ab", buffering=0) as log:

        def settled(job: Job, outcome: Outcome) -> None:
            log.write(log_line(job.token, outcome))
            pipe.send((job.token, outcome))

        asyncio.get_running_loop().add_reader(pipe.fileno(), receive)
        await run_jobs(next_job, store, settled, limits)
