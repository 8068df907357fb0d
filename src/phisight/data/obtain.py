"""Obtain many pictures at once: read or fetch, check, store. The local engine of a build.

Jobs are pulled from an iterator only when a worker is free, so a list of any length takes the same memory. Waiting is
done by asyncio, decoding by threads (Pillow lets go of the interpreter lock while it decodes).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from phisight.data.images import ImageLimits, take_image
from phisight.data.outcomes import Refusal, StoredImage
from phisight.data.references import Job

Settled = Callable[[Job, StoredImage | Refusal], None]
Fetch = Callable[[str], Awaitable[bytes]]


class ImageStore:
    """Takes bytes in and keeps the picture under a name made of its content."""

    def __init__(self, folder: Path, limits: ImageLimits) -> None:
        self.folder = folder
        self.limits = limits

    def take(self, body: bytes) -> StoredImage | Refusal:
        """Check a body and store its picture; whole under its name, or not at all."""
        try:
            stored, data = take_image(body, self.limits)
        except Refusal as refusal:
            return refusal
        self.keep(stored, data)
        return stored

    def keep(self, stored: StoredImage, data: bytes) -> None:
        """Write the bytes of a checked picture, unless they are there."""
        path = self.folder / stored.file_name
        if path.is_file() and path.stat().st_size == stored.size:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        temporary.write_bytes(data)
        temporary.replace(path)

    def take_file(self, path: str) -> StoredImage | Refusal:
        """Read a file (no more than the limit) and take it."""
        try:
            with Path(path).open("rb") as file:
                body = file.read(self.limits.max_bytes + 1)
        except OSError as error:
            return Refusal("missing_file", f"the file cannot be read: {error.strerror}")
        return self.take(body)


def obtain(
    jobs: Iterator[Job], store: ImageStore, settled: Settled, fetch: Fetch | None = None, workers: int = 8
) -> None:
    """Run every job and report each outcome, in any order, from one thread."""
    try:
        asyncio.run(_obtain(jobs, store, settled, fetch, workers))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None  # the first one stopped the others


async def _obtain(jobs: Iterator[Job], store: ImageStore, settled: Settled, fetch: Fetch | None, workers: int) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="decode") as pool:

        async def outcome_of(job: Job) -> StoredImage | Refusal:
            if job.path is not None:
                return await loop.run_in_executor(pool, store.take_file, job.path)
            if job.body is not None:
                return await loop.run_in_executor(pool, store.take, job.body)
            assert fetch is not None, "a build with addresses needs a fetcher"
            assert job.url is not None
            try:
                body = await fetch(job.url)
            except Refusal as refusal:
                return refusal
            return await loop.run_in_executor(pool, store.take, body)

        async def work() -> None:
            for job in jobs:
                settled(job, await outcome_of(job))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(work())
