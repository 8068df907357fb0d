"""Download many images at once: read or fetch, check, store. The local engine of a build.

    jobs -> [worker process: asyncio, many connections, decoding in between] x cores -> results

An image whose decoding may take long goes to a process of its own (``decode_child.py``), so that it holds up nobody;
what a worker spends on decoding is not charged to the images it downloads meanwhile. Any exception about one image is
that image's rejection.

Each worker is single-threaded: while one image is decoded the kernel goes on receiving the others, and no two threads
fight for the interpreter lock (measured: docs/decisions/0010-fetching.md). Jobs are pulled from an iterator only as
workers become free, so a list of any length takes the same memory. Small builds run in the process itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from phisight.core.errors import PhisightError
from phisight.data.build.work.decode_child import DecodeChildren
from phisight.data.build.work.image_store import ImageResult, ImageStore
from phisight.data.build.work.worklog import Entry, entry
from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job
from phisight.data.images.decode_cost import is_expensive
from phisight.data.images.rejection import Rejection, internal

_LONG_S = 0.02
OnResults = Callable[[Sequence[Entry]], None]
"""Called with the results of images."""
NextJob = Callable[[], Awaitable[Job | None]]
"""The next job; none when there are no more."""


def download_here(jobs: Iterator[Job], store: ImageStore, on_results: OnResults, limits: FetchLimits) -> None:
    """Run every job in this process and report each result, in any order."""

    async def next_job() -> Job | None:
        return next(jobs, None)

    run_to_end(run_jobs(next_job, store, on_results, limits))


def run_to_end(work: Awaitable[None]) -> None:
    """Run asyncio work; of several errors the first one, which stopped the others, is raised as it is."""

    async def main() -> None:
        await work

    try:
        asyncio.run(main())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def run_jobs(next_job: NextJob, store: ImageStore, on_results: OnResults, limits: FetchLimits) -> None:
    """Work until ``next_job`` has no more, as many jobs at once as there may be connections."""
    async with Fetcher(limits, store.limits.max_bytes) as fetcher:

        async def work() -> None:
            while (job := await next_job()) is not None:
                on_results([entry(job.token, await result_of(job, store, fetcher, children))])

        with DecodeChildren(store) as children:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(limits.connections):
                    tasks.create_task(work())


async def result_of(job: Job, store: ImageStore, fetcher: Fetcher, children: DecodeChildren) -> ImageResult:
    """Download, check and store one image."""
    try:
        body = await body_of(job, store, fetcher)
    except Rejection as rejection:
        return rejection
    except PhisightError:
        raise
    except Exception as error:  # whatever a server sends, it never ends the build
        return internal(error)
    if is_expensive(body):
        return await children.decode_and_store(body)
    start = time.monotonic()
    result = store.decode_and_store(body)
    if (busy := time.monotonic() - start) > _LONG_S:
        fetcher.extend(busy)
    return result


async def body_of(job: Job, store: ImageStore, fetcher: Fetcher) -> bytes:
    """The bytes of one image; Rejection when there are none."""
    if job.path is not None:
        return store.read_file(job.path)
    if job.body is not None:
        return job.body
    with await fetcher.fetch(str(job.url)) as file:
        return file.read()
