"""Fetch one picture's bytes from an address: pooled connections, limits, retries, redirects.

    slot of the host -> request -> status -> body under the cap -> content encoding undone under the cap

What can heal (5xx, 429, resets, silence) is tried again after a pause that doubles; what cannot (404, 410) is not.
A server's Retry-After pauses its whole host. Waiting for a slot or a pause does not count against a picture's time.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Self
from urllib.parse import urljoin, urlsplit

import httpcore2

from phisight.data.guard import GuardedBackend
from phisight.data.outcomes import Refusal
from phisight.data.references import checked_scheme
from phisight.data.wire import decoded, decoder_for, redirect_target, retry_after, wire_form

_SPOOL_BYTES = 1_000_000
_RETRIED_STATUS = {408, 425, 429, *range(500, 600)}
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class FetchLimits:
    """How long, how often and how many at once."""

    total_s: float = 30.0
    """Seconds for one picture over all attempts, from its first byte sent."""
    read_s: float = 10.0
    """Seconds without a byte."""
    connect_s: float = 10.0
    attempts: int = 4
    backoff_s: float = 0.5
    """Pause before the second attempt; doubled for each further one, with a random part of a half."""
    longest_pause_s: float = 60.0
    """A Retry-After beyond it ends the picture's attempts for this build."""
    redirects: int = 5
    connections: int = 128
    per_host: int = 32
    http2: bool = False
    allow_private: bool = False


class _TryAgain(Exception):  # noqa: N818 - a signal inside this file
    """An attempt failed in a way that can heal; ``pause_s`` is the server's wish."""

    def __init__(self, refusal: Refusal, pause_s: float | None = None) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.pause_s = pause_s


@dataclass
class _Host:
    """What is shared by all requests to one host."""

    slots: asyncio.Semaphore
    resume_at: float = 0.0
    waiting: int = field(default=0)


class Fetcher:
    """Fetches bodies; an async context manager, since it keeps connections open for reuse."""

    def __init__(self, limits: FetchLimits, max_bytes: int, ssl_context: ssl.SSLContext | None = None) -> None:
        self.limits = limits
        self.max_bytes = max_bytes
        self._hosts: dict[str, _Host] = {}
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=limits.connections,
            max_keepalive_connections=limits.connections,
            keepalive_expiry=15.0,
            http2=limits.http2,
            network_backend=GuardedBackend(limits.allow_private),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def fetch(self, url: str) -> IO[bytes]:
        """The body behind an address, as a file at its start (in memory while small); Refusal with the reason."""
        left = self.limits.total_s
        for attempt in range(1, self.limits.attempts + 1):
            spent = _Stopwatch()
            try:
                return await self._follow(url, left, spent)
            except _TryAgain as signal:
                left -= spent.seconds
                pause = await self._pause(signal, attempt)
                if attempt == self.limits.attempts or left <= 0 or pause is None:
                    raise signal.refusal from signal
                left -= pause if signal.pause_s is None else 0.0
                await asyncio.sleep(pause)
                if left <= 0:
                    raise signal.refusal from signal
        raise AssertionError("the last attempt returns or raises")

    async def _pause(self, signal: _TryAgain, attempt: int) -> float | None:
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
                    raise Refusal("timeout", f"not whole after {self.limits.total_s:g} s") from None
            if not isinstance(found, str):
                return found
            url = urljoin(url, found)
        raise Refusal("redirects", f"more than {self.limits.redirects} redirects")

    @asynccontextmanager
    async def _slot(self, url: str) -> AsyncIterator[_Host]:
        """A place among the requests to one host, once its pause is over."""
        name = urlsplit(url).netloc.rpartition("@")[2].lower()
        host = self._hosts.setdefault(name, _Host(asyncio.Semaphore(self.limits.per_host)))
        host.waiting += 1
        try:
            while (wait := host.resume_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            async with host.slots:
                yield host
        finally:
            host.waiting -= 1
            if host.waiting == 0 and host.resume_at < time.monotonic():
                self._hosts.pop(name, None)

    async def _request(self, url: str, host: _Host) -> IO[bytes] | str:
        """Send one request: the body, or the target of a redirect."""
        timeout = {
            "connect": self.limits.connect_s,
            "read": self.limits.read_s,
            "write": self.limits.read_s,
            "pool": self.limits.total_s,
        }
        target, headers = wire_form(url)
        body: IO[bytes] | None = None
        try:
            async with self._pool.stream("GET", target, headers=headers, extensions={"timeout": timeout}) as response:
                answer = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status in _REDIRECTS:
                    return redirect_target(answer)
                self._check_status(response.status, answer, host)
                body = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - handed to the caller
                await self._read_body(response.aiter_stream(), answer, body)
                body.seek(0)
                done, body = body, None
                return done
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise _TryAgain(self._network_refusal(error, body is not None)) from error
        except ExceptionGroup as group:
            raise _first_refusal(group) from group
        finally:
            if body is not None:
                body.close()

    def _network_refusal(self, error: Exception, in_body: bool) -> Refusal:
        if isinstance(error, httpcore2.TimeoutException):
            return Refusal("timeout", "no byte within the time limit of a read or a connection")
        if in_body:
            return Refusal("incomplete", "the connection ended before the body did")
        return Refusal("connection", "the connection failed or was cut")

    def _check_status(self, status: int, answer: dict[bytes, str], host: _Host) -> None:
        if 200 <= status < 300:
            return
        if status in (404, 410):
            raise Refusal("not_found", f"status {status}")
        if status not in _RETRIED_STATUS:
            raise Refusal("http_status", f"status {status}")
        kind = "rate_limited" if status == 429 else "server_error"
        pause = retry_after(answer.get(b"retry-after"))
        if pause is not None and pause <= self.limits.longest_pause_s:
            host.resume_at = max(host.resume_at, time.monotonic() + pause)
        raise _TryAgain(Refusal(kind, f"status {status} after {self.limits.attempts} attempts"), pause)

    async def _read_body(self, stream: AsyncIterator[bytes], answer: dict[bytes, str], body: IO[bytes]) -> None:
        """Copy the body, its content encoding undone, never past the cap."""
        cap = self.max_bytes
        announced = answer.get(b"content-length", "")
        if announced.isdigit() and int(announced) > cap:
            raise Refusal("too_large", f"{announced} bytes announced, more than the {cap} allowed")
        decoder = decoder_for(answer.get(b"content-encoding", ""))
        size = 0
        async for chunk in stream:
            plain = chunk if decoder is None else decoded(decoder, chunk, cap - size + 1)
            size += len(plain)
            if size > cap:
                raise Refusal("too_large", f"more than the {cap} bytes allowed")
            body.write(plain)
        if decoder is not None and not decoder.eof:
            raise _TryAgain(Refusal("incomplete", "the compressed body ends too early"))


class _Stopwatch:
    """Adds up the time spent inside its blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._start


def _first_refusal(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of errors comes down to (the network library may wrap a refused address into one)."""
    for error in group.exceptions:
        found = _first_refusal(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, Refusal):
            return found
    return group
