"""A worker process of the local engine: jobs in through a socket, images into the folder, entries out.

    python -m phisight.data.build.work.worker FD...      one worker for each socket; started by ``workers``

The process that is started imports what all workers need, forks them and waits for them. What a worker receives was
pickled by the parent that made its socket. A worker ends when its socket does: none outlives a parent that was killed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection

from phisight.data.build.work.download import ImageStore, run_jobs, run_to_end
from phisight.data.build.work.worklog import Entry, log_line, log_path
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job

_REPORT_S = 0.05
"""Entries wait so long for others to travel with."""


def main(descriptors: Sequence[int]) -> None:
    """Fork a worker for each socket and wait for their ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    warnings.filterwarnings("ignore", module="PIL")  # remarks on damaged files; what matters is rejected
    gc.freeze()
    for mine in descriptors:
        if os.fork() == 0:
            for other in descriptors:
                if other != mine:
                    os.close(other)
            _serve(mine)
            return
    for descriptor in descriptors:
        os.close(descriptor)
    for _ in descriptors:
        os.wait()


def _serve(descriptor: int) -> None:
    """One worker, until its socket says that there is no more or ends."""
    with Connection(descriptor) as pipe:
        try:
            store, limits = pipe.recv()
        except EOFError:
            return  # the build ended before it came to images
        run_to_end(_work(pipe, store, limits))


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


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
