"""Obtain many pictures at once: read or fetch, check, store. The local engine of a build.

    jobs -> [worker process: asyncio, many connections, decoding in between] x cores -> outcomes

Each worker is single-threaded: while one picture is decoded the kernel goes on receiving the others, and no two threads
fight for the interpreter lock (measured: docs/decisions/0010-fetching.md). Jobs are pulled from an iterator only as
workers become free, so a list of any length takes the same memory. Small builds run in the process itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from phisight.data.build.work.worklog import Entry, entry
from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import Job
from phisight.data.images.decode import ImageLimits, take_image
from phisight.data.images.rejection import Refusal, StoredImage

Outcome = StoredImage | Refusal
Settled = Callable[[Sequence[Entry]], None]
"""Told what became of pictures."""
NextJob = Callable[[], Awaitable[Job | None]]
"""The next job; none when there are no more."""


class ImageStore:
    """Takes bytes in and keeps the picture under a name made of its content."""

    def __init__(self, folder: Path, limits: ImageLimits) -> None:
        self.folder = folder
        self.limits = limits

    def take(self, body: bytes) -> Outcome:
        """Check a body and store its picture; whole under its name, or not at all."""
        try:
            stored, data = take_image(body, self.limits)
        except Refusal as refusal:
            return refusal
        self.keep(stored, data)
        return stored

    def keep(self, stored: StoredImage, data: bytes) -> None:
        """Write the bytes of a checked picture, unless they are there."""
        path = os.path.join(self.folder, stored.file_name)  # noqa: PTH118 - a fifth of a Path's time
        try:
            if os.stat(path).st_size == stored.size:  # noqa: PTH116
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

    def take_body(self, body: IO[bytes]) -> Outcome:
        """Take a fetched body and close its file."""
        with body:
            data = body.read()
        return self.take(data)

    def take_file(self, path: str) -> Outcome:
        """Read a file (no more than the limit) and take it."""
        try:
            with Path(path).open("rb") as file:
                body = file.read(self.limits.max_bytes + 1)
        except OSError as error:
            return Refusal("missing_file", f"the file cannot be read: {error.strerror}")
        return self.take(body)


def obtain_here(jobs: Iterator[Job], store: ImageStore, settled: Settled, limits: FetchLimits) -> None:
    """Run every job in this process and report each outcome, in any order."""

    async def next_job() -> Job | None:
        return next(jobs, None)

    run_to_end(run_jobs(next_job, store, settled, limits))


def run_to_end(work: Awaitable[None]) -> None:
    """Run asyncio work; of several errors the first one, which stopped the others, is raised as it is."""

    async def main() -> None:
        await work

    try:
        asyncio.run(main())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def run_jobs(next_job: NextJob, store: ImageStore, settled: Settled, limits: FetchLimits) -> None:
    """Work until ``next_job`` has no more, as many jobs at once as there may be connections."""
    async with Fetcher(limits, store.limits.max_bytes) as fetcher:

        async def work() -> None:
            while (job := await next_job()) is not None:
                settled([entry(job.token, await outcome_of(job, store, fetcher))])

        async with asyncio.TaskGroup() as tasks:
            for _ in range(limits.connections):
                tasks.create_task(work())


async def outcome_of(job: Job, store: ImageStore, fetcher: Fetcher) -> Outcome:
    """Obtain, check and store one picture."""
    if job.path is not None:
        return store.take_file(job.path)
    if job.body is not None:
        return store.take(job.body)
    try:
        return store.take_body(await fetcher.fetch(str(job.url)))
    except Refusal as refusal:
        return refusal
