"""Download many images at once: read or fetch, check, store. The local engine of a build.

    jobs -> [worker process: asyncio, many connections, decoding in between] x cores -> results

An image whose decoding may take long goes to a thread, so that it holds up nobody; what a worker spends on decoding is
not charged to the images it downloads meanwhile. Any exception about one image is that image's rejection.

Each worker is single-threaded: while one image is decoded the kernel goes on receiving the others, and no two threads
fight for the interpreter lock (measured: docs/decisions/0010-fetching.md). Jobs are pulled from an iterator only as
workers become free, so a list of any length takes the same memory. Small builds run in the process itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from phisight.core.errors import PhisightError
from phisight.data.build.work.worklog import Entry, cannot_write, entry
from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job
from phisight.data.images.decode import ImageLimits, prepare_image
from phisight.data.images.decode_cost import is_expensive
from phisight.data.images.rejection import Rejection, StoredImage, internal

_LONG_S = 0.02
ImageResult = StoredImage | Rejection
OnResults = Callable[[Sequence[Entry]], None]
"""Called with the results of images."""
NextJob = Callable[[], Awaitable[Job | None]]
"""The next job; none when there are no more."""


class ImageStore:
    """Decodes and checks bytes, and stores the image under a name made of its content."""

    def __init__(self, folder: Path, limits: ImageLimits) -> None:
        self.folder = folder
        self.limits = limits

    def decode_and_store(self, body: bytes) -> ImageResult:
        """Check a body and store its image; whole under its name, or not at all. StorageError when it cannot be."""
        try:
            stored, data = prepare_image(body, self.limits)
        except Rejection as rejection:
            return rejection
        except Exception as error:  # whatever an image holds, it never ends the build
            return internal(error)
        try:
            self.write(stored, data)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        return stored

    def write(self, stored: StoredImage, data: bytes) -> None:
        """Write the bytes of a checked image, unless they are there."""
        path = os.path.join(self.folder, stored.file_name)  # noqa: PTH118 - a fifth of a Path's time
        try:
            if os.stat(path).st_size == stored.size and Path(path).read_bytes() == data:  # noqa: PTH116
                return
        except FileNotFoundError:
            pass
        parent, name = os.path.split(path)
        temporary = f"{parent}/.{name}.{os.getpid()}.tmp"
        try:
            file = open(temporary, "wb", buffering=0)  # noqa: PTH123, SIM115
        except FileNotFoundError:
            Path(parent).mkdir(parents=True, exist_ok=True)
            file = open(temporary, "wb", buffering=0)  # noqa: PTH123, SIM115
        with file:
            file.write(data)
        os.replace(temporary, path)  # noqa: PTH105

    def read_file(self, path: str) -> bytes:
        """A file's bytes, no more than one over the limit; Rejection when it cannot be read."""
        try:
            with Path(path).open("rb") as file:
                return file.read(self.limits.max_bytes + 1)
        except OSError as error:
            raise Rejection("missing_file", f"the file cannot be read: {error.strerror}") from error


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
                on_results([entry(job.token, await result_of(job, store, fetcher, thread))])

        with ThreadPoolExecutor(1, "decode") as thread:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(limits.connections):
                    tasks.create_task(work())


async def result_of(job: Job, store: ImageStore, fetcher: Fetcher, thread: ThreadPoolExecutor) -> ImageResult:
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
        return await asyncio.get_running_loop().run_in_executor(thread, store.decode_and_store, body)
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
