"""Fetch one image's bytes from an address: limits, retries, redirects.

    slot of the host -> request -> status -> body under the cap -> content encoding undone under the cap

What can heal (5xx, 429, resets, silence) is tried again after a pause that doubles; what cannot (404, 410) is not.
A server's Retry-After pauses its whole host. Waiting for a slot or a pause does not count against an image's time.
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
from urllib.parse import urljoin, urlsplit

from phisight.data.fetch.answer import Answer, TryAgain
from phisight.data.fetch.http1 import Http1
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import checked_scheme
from phisight.data.fetch.ssrf_guard import Guard
from phisight.data.fetch.wire import wire_form
from phisight.data.images.rejection import Rejection

if TYPE_CHECKING:
    from phisight.data.fetch.http2 import Http2


@dataclass
class _Host:
    """What is shared by all requests to one host."""

    slots: asyncio.Semaphore
    resume_at: float = 0.0
    waiting: int = 0


class Fetcher:
    """Fetches bodies; an async context manager, since it keeps connections open for reuse."""

    def __init__(self, limits: FetchLimits, max_bytes: int, ssl_context: ssl.SSLContext | None = None) -> None:
        self.limits = limits
        self.max_bytes = max_bytes
        self._hosts: dict[str, _Host] = {}
        self._places = asyncio.Semaphore(limits.connections)
        guard = Guard(limits.allow_private)
        self._plain = Http1(limits, guard, ssl_context)
        self._secure: Http1 | Http2 = self._plain
        if limits.http2:
            from phisight.data.fetch.http2 import Http2

            self._secure = Http2(limits, guard, ssl_context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._plain.close()
        await self._secure.close()

    async def fetch(self, url: str) -> IO[bytes]:
        """The body behind an address, as a file at its start (in memory while small); Rejection with the reason."""
        left = self.limits.total_s
        for attempt in range(1, self.limits.attempts + 1):
            spent = _Stopwatch()
            try:
                return await self._follow(url, left, spent)
            except TryAgain as signal:
                left -= spent.seconds
                pause = self._pause(signal, attempt)
                if attempt == self.limits.attempts or left <= 0 or pause is None:
                    raise self._final(signal.rejection) from signal
                left -= pause if signal.pause_s is None else 0.0
                await asyncio.sleep(pause)
                if left <= 0:
                    raise self._final(signal.rejection) from signal
        raise AssertionError("the last attempt returns or raises")

    def _final(self, rejection: Rejection) -> Rejection:
        """A rejection after the last attempt; of a server's failure it says how often it could be asked."""
        if rejection.kind in ("server_error", "rate_limited"):
            return Rejection(rejection.kind, f"{rejection.reason}, asked up to {self.limits.attempts} times")
        return rejection

    def _pause(self, signal: TryAgain, attempt: int) -> float | None:
        if signal.pause_s is not None:
            return signal.pause_s if signal.pause_s <= self.limits.longest_pause_s else None
        return float(self.limits.backoff_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _follow(self, url: str, left: float, spent: _Stopwatch) -> IO[bytes]:
        """One attempt, along its redirects; each hop passes the checks of a new address."""
        for _ in range(self.limits.redirects + 1):
            checked_scheme(url)
            async with self._slot(url) as host:
                try:
                    async with asyncio.timeout(left - spent.seconds):
                        with spent:
                            found = await self._request(url, host)
                except TimeoutError:
                    raise Rejection("timeout", f"not whole after {self.limits.total_s:g} s") from None
            if not isinstance(found, str):
                return found
            url = urljoin(url, found)
        raise Rejection("redirects", f"more than {self.limits.redirects} redirects")

    @asynccontextmanager
    async def _slot(self, url: str) -> AsyncIterator[_Host]:
        """A place among the requests to one host, once its pause is over, and among all."""
        name = urlsplit(url).netloc.rpartition("@")[2].lower()
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(asyncio.Semaphore(self.limits.per_host))
        host.waiting += 1
        try:
            while (wait := host.resume_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            async with host.slots, self._places:
                yield host
        finally:
            host.waiting -= 1
            if host.waiting == 0 and host.resume_at < time.monotonic():
                self._hosts.pop(name, None)

    async def _request(self, url: str, host: _Host) -> IO[bytes] | str:
        """Send one request: the body, or the target of a redirect."""
        request, answer = wire_form(url), Answer(self.max_bytes)
        protocol = self._secure if request.scheme == "https" else self._plain
        try:
            await protocol.get(request, answer)
        except TryAgain as signal:
            if signal.pause_s is not None and signal.pause_s <= self.limits.longest_pause_s:
                host.resume_at = max(host.resume_at, time.monotonic() + signal.pause_s)
            answer.discard()
            raise
        except BaseException:
            answer.discard()
            raise
        if answer.target is not None:
            return answer.target
        assert answer.body is not None
        return answer.body


class _Stopwatch:
    """Adds up the time spent inside its blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._start
