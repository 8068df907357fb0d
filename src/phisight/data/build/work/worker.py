"""A worker process of the local engine: jobs in through a pipe, images into the folder, entries out.

What a worker receives was pickled by the parent that made its pipe. A worker ends when its pipe does: none outlives a
parent that was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection

from phisight.core.errors import PhisightError
from phisight.data.build.work.download import run_jobs, run_to_end
from phisight.data.build.work.image_store import ImageStore
from phisight.data.build.work.worklog import Entry, log_line, log_path
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job

_REPORT_S = 0.05
"""Entries wait so long for others to travel with."""


def serve(pipe: Connection) -> None:
    """One worker, until the pipe says that there is no more or ends. An error that stops it is sent to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    warnings.filterwarnings("ignore", module="PIL")  # remarks on damaged files; what matters is rejected
    with pipe:
        try:
            store, limits = pipe.recv()
        except EOFError:
            return  # the build ended before it came to images
        try:
            run_to_end(_work(pipe, store, limits))
        except PhisightError as error:
            pipe.send(error)


async def _work(pipe: Connection, store: ImageStore, limits: FetchLimits) -> None:
    queue: asyncio.Queue[Job | None] = asyncio.Queue()
    outbox: list[Entry] = []
    loop = asyncio.get_running_loop()

    def receive() -> None:
        try:
            for job in pipe.recv():
                queue.put_nowait(job)
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone: nobody reads results

    async def next_job() -> Job | None:
        job = await queue.get()
        if job is None:
            queue.put_nowait(None)
        return job

    def report() -> None:
        pipe.send(outbox)
        outbox.clear()

    with log_path(store.folder, os.getpid()).open("ab", buffering=0) as log:

        def on_results(entries: Sequence[Entry]) -> None:
            log.write(b"".join(map(log_line, entries)))
            if not outbox:
                loop.call_later(_REPORT_S, report)
            outbox.extend(entries)

        loop.add_reader(pipe.fileno(), receive)
        await run_jobs(next_job, store, on_results, limits)
        if outbox:
            report()
