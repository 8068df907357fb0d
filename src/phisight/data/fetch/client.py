"""Fetch one image's bytes from an address: limits, retries, redirects.

    turn of the host -> request -> status -> body under the cap -> content encoding undone under the cap

Transient failures (5xx, 429, resets, silence) are tried again after a pause that doubles; permanent ones (404, 410) are
not. A server's Retry-After pauses its whole host. Waiting for a turn or a pause does not count against an image's time,
nor does the time in which this process decodes other images.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self
from urllib.parse import urlsplit

from phisight.data.fetch.addresses import OBJECT_STORES, checked_address, origin
from phisight.data.fetch.failures import TransientError
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.object_store import read_object
from phisight.data.images.rejection import Rejection

if TYPE_CHECKING:
    from phisight.data.fetch.http import Http


@dataclass
class _Host:
    """State shared by all requests to one host."""

    turns: asyncio.Semaphore
    resume_at: float = 0.0
    waiting: int = 0


class Fetcher:
    """Fetches bodies; an async context manager, since it keeps connections open for reuse."""

    def __init__(self, limits: FetchLimits, max_bytes: int, ssl_context: ssl.SSLContext | None = None) -> None:
        self.limits = limits
        self.max_bytes = max_bytes
        self._hosts: dict[str, _Host] = {}
        self._connections = asyncio.Semaphore(limits.connections)
        self._context = ssl_context
        self._http: Http | None = None
        self._deadlines: set[asyncio.Timeout] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def fetch(self, url: str) -> IO[bytes]:
        """The body behind an address, as a file at its start (in memory while small); Rejection with the reason."""
        self._opened()
        left = self.limits.total_s
        for attempt in range(1, self.limits.attempts + 1):
            spent = _Stopwatch()
            try:
                return await self._follow(url, left, spent)
            except TransientError as failure:
                left -= spent.seconds
                pause = self._pause(failure, attempt)
                if attempt == self.limits.attempts or left <= 0 or pause is None:
                    raise self._final(failure.rejection) from failure
                left -= pause if failure.pause_s is None else 0.0
                await asyncio.sleep(pause)
                if left <= 0:
                    raise self._final(failure.rejection) from failure
        raise AssertionError("the last attempt returns or raises")

    def _opened(self) -> Http:
        """The HTTP client, imported on no image's time; aiohttp takes a fifth of a second: not for local files."""
        if self._http is None:
            from phisight.data.fetch.http import Http

            self._http = Http(self.limits, self.max_bytes, self._context)
        return self._http

    def extend(self, seconds: float) -> None:
        """Move every running deadline: this process was busy with something else for so long."""
        for deadline in self._deadlines:
            when = deadline.when()
            if when is not None:
                deadline.reschedule(when + seconds)

    def _final(self, rejection: Rejection) -> Rejection:
        """A rejection after the last attempt; of a server's failure it says how often it was asked at most."""
        if rejection.kind in ("server_error", "rate_limited"):
            return Rejection(rejection.kind, f"{rejection.reason}, asked up to {self.limits.attempts} times")
        return rejection

    def _pause(self, failure: TransientError, attempt: int) -> float | None:
        if failure.pause_s is not None:
            return failure.pause_s if failure.pause_s <= self.limits.longest_pause_s else None
        return float(self.limits.backoff_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _follow(self, url: str, left: float, spent: _Stopwatch) -> IO[bytes]:
        """One attempt, along its redirects; each hop passes the checks of a new address."""
        start = url
        for _ in range(self.limits.redirects + 1):
            url = checked_address(url)
            ours = self.limits.headers and (url == start or origin(url) == origin(start))
            headers = dict(self.limits.headers) if ours else {}
            async with self._turn(url) as host:
                found = await self._within(left - spent.seconds, spent, url, headers, host)
            if not isinstance(found, str):
                return found
            url = found
        raise Rejection("redirects", f"more than {self.limits.redirects} redirects")

    async def _within(
        self, left: float, spent: _Stopwatch, url: str, headers: dict[str, str], host: _Host
    ) -> IO[bytes] | str:
        """One request, in at most ``left`` seconds."""
        deadline = asyncio.timeout(left)
        try:
            async with deadline:
                self._deadlines.add(deadline)
                with spent:
                    return await self._request(url, headers, host)
        except TimeoutError:
            raise Rejection("timeout", f"not whole after {self.limits.total_s:g} s") from None
        finally:
            self._deadlines.discard(deadline)

    @asynccontextmanager
    async def _turn(self, url: str) -> AsyncIterator[_Host]:
        """A turn among the requests to one host, once its pause is over, and among all."""
        name = urlsplit(url).netloc.rpartition("@")[2].lower()
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(asyncio.Semaphore(self.limits.per_host))
        host.waiting += 1
        try:
            while (wait := host.resume_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            async with host.turns, self._connections:
                yield host
        finally:
            host.waiting -= 1
            if host.waiting == 0 and host.resume_at < time.monotonic():
                self._hosts.pop(name, None)

    async def _request(self, url: str, headers: dict[str, str], host: _Host) -> IO[bytes] | str:
        """Send one request: the body, or the target of a redirect."""
        if urlsplit(url).scheme.lower() in OBJECT_STORES:
            return await asyncio.to_thread(read_object, url, self.max_bytes)
        try:
            return await self._opened().get(url, headers)
        except TransientError as failure:
            if failure.pause_s is not None and failure.pause_s <= self.limits.longest_pause_s:
                host.resume_at = max(host.resume_at, time.monotonic() + failure.pause_s)
            raise


class _Stopwatch:
    """Adds up the time spent inside its blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._start
