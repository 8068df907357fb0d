"""Listen and answer until a signal comes: headers within their time, what was taken is finished within a grace time."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from phisight.core.errors import SettingsError
from phisight.serve.app import Server
from phisight.serve.serve_settings import ServeSettings

KEEP_ALIVE_S = 90
"""Seconds that a connection without a request stays open: longer than clients and balancers keep theirs (aiohttp 15,
nginx 60), for a request that meets a connection on its way out is lost, and POST is not sent again."""
SWITCH_S = 0.0005
"""Seconds after which a thread that computes lets another one have the interpreter."""


def listen(server: Server, *, announce: Any = None) -> None:
    """Serve on the settings' host and port until SIGTERM or SIGINT.

    Args:
        server: The application.
        announce: Called with the address once it listens.

    Raises:
        SettingsError: The address is taken or not this machine's, or the processes that decode images do not start.
    """
    settings = server.settings
    sock = _bound(settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{sock.getsockname()[1]}"
    running = _Running(config_of(server), url, announce)
    # The model's thread takes the interpreter back after every operation; it should not wait long for the loop.
    sys.setswitchinterval(SWITCH_S)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:  # uvicorn raises the signal once more when it is done
        signal.signal(number, _ignore)
    try:
        running.run(sockets=[sock])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sock.close()
    if server.failure is not None:
        reason = " ".join(f"{type(server.failure).__name__}: {server.failure}".split())[:200]
        raise SettingsError(f"the server did not start ({reason}); try --workers 0") from server.failure


def config_of(server: Server) -> uvicorn.Config:
    """uvicorn's settings for a server."""
    settings = server.settings
    return uvicorn.Config(
        server.app,
        host=settings.host,
        port=settings.port,
        http=timed_protocol(settings.header_s),
        loop="asyncio",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
        limit_concurrency=settings.max_connections,
        h11_max_incomplete_event_size=65_536,
    )


class _Running(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, url: str, announce: Any) -> None:
        super().__init__(config)
        self._url, self._announce = url, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started and self._announce is not None:
            self._announce(self._url)


def timed_protocol(seconds: float) -> type[H11Protocol]:
    """The HTTP protocol that closes connections whose next request is not begun within so many seconds."""

    class TimedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._is_idle():  # a request has begun; what comes behind it has its own time
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

        def _is_idle(self) -> bool:
            """Whether no request is being answered."""
            return self.cycle is None or self.cycle.response_complete

        def _check(self) -> None:
            self._timer = None
            if self._is_idle() and not self.transport.is_closing():
                self.transport.close()

    return TimedProtocol


def _bound(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}; choose another --port or --host"
        ) from error
    return sock


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The server has ended by then."""
