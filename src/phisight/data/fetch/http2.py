"""HTTP/2 (and HTTP/1.1 where a server prefers it) over TLS, by httpcore2, its connections opened by the guard."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2
from httpcore2 import AsyncNetworkBackend, AsyncNetworkStream

from phisight.data.fetch.answer import Answer, silent
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.ssrf_guard import Guard
from phisight.data.fetch.wire import Request
from phisight.data.images.rejection import Rejection


class Http2:
    """Sends requests over a pool that negotiates the protocol with each server (ALPN)."""

    def __init__(self, limits: FetchLimits, guard: Guard, ssl_context: ssl.SSLContext | None = None) -> None:
        self._timeout = {
            "connect": limits.connect_s,
            "read": limits.read_s,
            "write": limits.read_s,
            "pool": limits.total_s,
        }
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=limits.connections,
            max_keepalive_connections=limits.connections,
            keepalive_expiry=15.0,
            http2=True,
            network_backend=GuardedBackend(guard),
        )

    async def get(self, request: Request, answer: Answer) -> None:
        """Send a request and fill the answer; TryAgain or Rejection when that fails."""
        url = f"{request.scheme}://{request.authority}{request.target}"
        headers: list[tuple[bytes | str, bytes | str]] = list(request.headers.items())
        try:
            async with self._pool.stream(
                "GET", url, headers=headers, extensions={"timeout": self._timeout}
            ) as response:
                if answer.begin(response.status, {name.lower(): value for name, value in response.headers}):
                    async for piece in response.aiter_stream():
                        answer.add(piece)
                answer.end()
        except httpcore2.TimeoutException as error:
            raise silent() from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise answer.failure() from error
        except ExceptionGroup as group:
            raise _first_rejection(group) from group

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class GuardedBackend(AsyncNetworkBackend):
    """Asks the guard, then dials an address it let through; Rejection when it lets none."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to ``host``; the same contract as httpcore's back ends, plus the check."""
        failure: Exception | None = None
        for address in await self._guard.resolve(host, port):
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout=timeout, local_address=local_address, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError("no address")

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002 - the contract of a back end
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> AsyncNetworkStream:
        """Never: an address of the internet is none of the machine's sockets."""
        raise Rejection("bad_url", "sockets of this machine are not fetched from")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def _first_rejection(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of errors comes down to (the network library may wrap a rejected address into one)."""
    for error in group.exceptions:
        found = _first_rejection(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, Rejection):
            return found
    return group
