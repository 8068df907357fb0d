"""Worker processes of the local engine, seen from the parent: each runs ``download.run_jobs`` on what it is sent.

The parent hands every worker a window of jobs, refills it as entries come back, and is the only one that writes the
journal.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Self

from phisight.core.environment import changed_environment
from phisight.core.errors import DataError, PhisightError
from phisight.data.build.work.download import OnResults, download_here
from phisight.data.build.work.image_store import ImageStore
from phisight.data.build.work.worker import serve
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job

_ROWS_WORTH_A_PROCESS = 400
_SPARE_JOBS = 32
"""Jobs a worker holds beyond those it works on, so that it need not wait for the parent."""
_BYTES_AHEAD = 64_000_000
"""Bytes of embedded images a worker may hold; one more image may always come."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""For the fork server's linear algebra: forking is safe only while there is one thread."""


def download(
    jobs: Iterator[Job], store: ImageStore, on_results: OnResults, limits: FetchLimits, processes: int = 1
) -> None:
    """Run every job and report each result, in any order, from the calling thread."""
    if processes <= 1 or not hasattr(os, "fork"):
        download_here(jobs, store, on_results, limits)
    else:
        with WorkerPool(processes) as pool:
            pool.run(jobs, store, on_results, limits)


def processes_for(rows: int | None) -> int:
    """How many processes a source is worth: one for each 400 rows (None means many), at most one a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if rows is None else max(1, min(cores, rows // _ROWS_WORTH_A_PROCESS))


@dataclass
class _Worker:
    pipe: Connection
    jobs: dict[str, int] = field(default_factory=dict)
    """Tokens of the jobs it holds, with the bytes they carry."""
    bytes_ahead: int = 0


class WorkerPool:
    """Workers and the jobs each of them holds; the fork server imports what they need while the caller works."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["phisight.data.build.work.worker", "phisight.data.fetch.http"])
        with changed_environment(_ONE_THREAD):
            multiprocessing.forkserver.ensure_running()
        self.processes: list[BaseProcess] = []
        self._workers: list[_Worker] = []
        self._starts = Thread(target=self._start, name="start workers")
        theirs: list[Connection] = []
        for _ in range(count):
            ours, their = context.Pipe()
            self._workers.append(_Worker(ours))
            self.processes.append(context.Process(target=serve, args=(their,), daemon=True))
            theirs.append(their)
        self._theirs = theirs
        self._starts.start()

    def _start(self) -> None:
        """Start the workers, in a thread: each start waits for the fork server's imports."""
        for process, their in zip(self.processes, self._theirs, strict=True):
            process.start()
            their.close()

    def started(self) -> None:
        """Wait until every worker runs."""
        self._starts.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Workers end with their pipes, in the middle of whatever they do."""
        for worker in self._workers:
            worker.pipe.close()
        self.started()
        for process in self.processes:
            process.join()

    def run(self, jobs: Iterator[Job], store: ImageStore, on_results: OnResults, limits: FetchLimits) -> None:
        """Feed the workers until every job has a result."""
        count = len(self._workers)
        share = replace(
            limits, connections=max(1, limits.connections // count), per_host=max(1, limits.per_host // count)
        )
        window = share.connections + _SPARE_JOBS
        try:
            for worker in self._workers:
                worker.pipe.send((store, share))
            for worker in self._workers:
                _refill(worker, jobs, window)
            while any(worker.jobs for worker in self._workers):
                by_pipe = {worker.pipe: worker for worker in self._workers if worker.jobs}
                for pipe in wait(list(by_pipe)):
                    worker = by_pipe[pipe]  # type: ignore[index]
                    _receive(worker, on_results)
                    _refill(worker, jobs, window)
            for worker in self._workers:
                worker.pipe.send([None])
        except (EOFError, ConnectionError):
            raise DataError(
                "a worker process died, perhaps out of memory; nothing that was stored is lost: run the same "
                'command again (a script that builds must call it under `if __name__ == "__main__":`)'
            ) from None


def _receive(worker: _Worker, on_results: OnResults) -> None:
    entries = worker.pipe.recv()
    if isinstance(entries, PhisightError):
        raise entries
    on_results(entries)
    for token, _, _ in entries:
        worker.bytes_ahead -= worker.jobs.pop(token)


def _refill(worker: _Worker, jobs: Iterator[Job], window: int) -> None:
    batch: list[Job] = []
    while len(worker.jobs) < window and worker.bytes_ahead < _BYTES_AHEAD and (job := next(jobs, None)) is not None:
        worker.jobs[job.token] = len(job.body or b"")
        worker.bytes_ahead += worker.jobs[job.token]
        batch.append(job)
    if batch:
        worker.pipe.send(batch)
