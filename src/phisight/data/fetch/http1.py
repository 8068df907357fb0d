"""HTTP/1.1 over kept connections: asyncio's transports, and llhttp (the parser of Node.js) through httptools.

An image costs a fifth of a millisecond of processor time here (docs/decisions/0010-fetching.md), since there is one
future a request, one receive buffer for all connections, and no parsing in Python. Every new connection asks the guard
for the addresses of its host and dials one of those.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from phisight.data.fetch.answer import Answer, TryAgain, silent
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.ssrf_guard import Guard
from phisight.data.fetch.wire import Request
from phisight.data.images.rejection import Rejection

_BUFFER_BYTES = 262_144
_IDLE_S = 15.0
_BARREN_BYTES = 65_536
"""What may come in a row without a byte of body: a head, trailers, marks of chunks."""

Origin = tuple[str, str, int]


class Http1:
    """Sends requests, one at a time on each connection, and keeps the connections for the next ones."""

    def __init__(self, limits: FetchLimits, guard: Guard, ssl_context: ssl.SSLContext | None = None) -> None:
        self._limits = limits
        self._guard = guard
        self._ssl = ssl_context
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._idle: defaultdict[Origin, list[_Connection]] = defaultdict(list)
        self._open: set[_Connection] = set()

    async def get(self, request: Request, answer: Answer) -> None:
        """Send a request and fill the answer; TryAgain or Rejection when that fails."""
        kept = self._kept(request.origin)
        if kept is not None and await self._exchange(kept, request, answer):
            return
        if not await self._exchange(await self._connect(request), request, answer):
            raise answer.failure()

    async def close(self) -> None:
        """Cut every connection."""
        for connection in list(self._open):
            connection.abort()
        self._open.clear()
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    async def _exchange(self, connection: _Connection, request: Request, answer: Answer) -> bool:
        """Whether the server answered: a kept connection it had closed meanwhile gives no byte."""
        try:
            return await connection.exchange(request.head, answer, self._limits.read_s)
        finally:
            if connection.reusable:
                self._idle[request.origin].append(connection)
            else:
                connection.abort()
                self._open.discard(connection)

    def _kept(self, origin: Origin) -> _Connection | None:
        """The connection to an origin that was used last, if it is still good."""
        while kept := self._idle.get(origin):
            connection = kept.pop()
            if not kept:
                del self._idle[origin]
            if connection.reusable and connection.received_at > asyncio.get_running_loop().time() - _IDLE_S:
                return connection
            connection.abort()
            self._open.discard(connection)
        return None

    async def _connect(self, request: Request) -> _Connection:
        """A new connection, to an address the guard let through."""
        self._make_room()
        context = self._tls() if request.scheme == "https" else None
        name = request.host if context else None
        loop, failure = asyncio.get_running_loop(), TryAgain(Rejection("connection", "the connection failed"))
        for address in await self._guard.resolve(request.host, request.port):
            try:
                async with asyncio.timeout(self._limits.connect_s):
                    _, connection = await loop.create_connection(
                        lambda: _Connection(self._buffer), address, request.port, ssl=context, server_hostname=name
                    )
            except TimeoutError:
                failure = silent()
            except OSError:
                continue
            else:
                self._open.add(connection)
                return connection
        raise failure

    def _make_room(self) -> None:
        """Close kept connections, the least recently heard of first, while as many are open as there may be."""
        if len(self._open) < self._limits.connections:
            return
        for connection in sorted((c for kept in self._idle.values() for c in kept), key=lambda c: c.received_at):
            if len(self._open) < self._limits.connections:
                break
            connection.reusable = False
            connection.abort()
            self._open.discard(connection)

    def _tls(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = ssl.create_default_context()
        return self._ssl


class _Connection(asyncio.BufferedProtocol):
    """One connection; the parser's callbacks collect the head and pass the body on."""

    def __init__(self, buffer: memoryview) -> None:
        self.reusable = False
        self.received_at = 0.0
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._exchange: _Exchange | None = None
        self._transport: asyncio.Transport | None = None

    async def exchange(self, head: bytes, answer: Answer, read_s: float) -> bool:
        """Send a request and wait for its answer; False when the connection was dead before a byte came back."""
        assert self._transport is not None
        self.reusable = False
        self.received_at = self._loop.time()
        self._exchange = _Exchange(answer, self._loop.create_future())
        self._watch(read_s)
        try:
            self._transport.write(head)
            return await self._exchange.done
        finally:
            self._exchange = None
            self._timer.cancel()

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _watch(self, read_s: float) -> None:
        """End an exchange on which nothing was heard for ``read_s``; look again when that could be."""
        left = self.received_at + read_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._watch, read_s)
        elif self._exchange is not None:
            self._exchange.fail(silent())

    # called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's contract
        """One buffer for all connections: what arrives is parsed before the next one is read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        exchange = self._exchange
        if exchange is None or exchange.done.done():
            self.reusable = False  # an answer nobody asked for
            self.abort()
            return
        self.received_at = self._loop.time()
        exchange.heard = True
        exchange.barren += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (HttpParserError, HttpParserUpgrade):
            exchange.failure = exchange.failure or exchange.answer.failure()
        if exchange.barren > _BARREN_BYTES and exchange.failure is None and not exchange.complete:
            exchange.failure = exchange.answer.failure()
        self.reusable = exchange.settle()

    def eof_received(self) -> None:
        """The server closed: the end of a body without a length, a fault in every other place."""
        if self._exchange is not None:
            self._exchange.ended()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self.reusable = False
        if self._exchange is not None:
            self._exchange.ended() if error is None else self._exchange.fail(self._exchange.answer.failure())

    # called by the parser; what is raised here would come out as an error of the parser

    def on_message_begin(self) -> None:
        """An answer begins; a second one was not asked for."""
        if self._exchange is not None and self._exchange.complete:
            self._exchange.keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of the head (or of trailers, which nobody reads)."""
        assert self._exchange is not None
        if not self._exchange.begun:
            self._exchange.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is whole."""
        assert self._exchange is not None
        self._exchange.begin(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        """A piece of the body, chunk marks removed."""
        assert self._exchange is not None
        self._exchange.add(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        assert self._exchange is not None
        self._exchange.finish(self._parser.should_keep_alive())


class _Exchange:
    """One request's answer while it comes in."""

    def __init__(self, answer: Answer, done: asyncio.Future[bool]) -> None:
        self.answer = answer
        self.done = done
        """True: answered. False: not a byte came back."""
        self.headers: dict[bytes, bytes] = {}
        self.barren = 0
        self.heard = self.begun = self.wanted = self.complete = self.keep = False
        self.failure: Exception | None = None

    def begin(self, status: int) -> None:
        """The head is whole; one with a status of 1xx goes before another, one after the answer was not asked for."""
        if self.complete:
            return
        if 100 <= status < 200:
            self.headers = {}
            return
        self.begun = True
        try:
            self.wanted = self.answer.begin(status, self.headers)
        except (Rejection, TryAgain) as failure:
            self.failure = failure

    def add(self, piece: bytes) -> None:
        """A piece of the body; whatever comes after its end or a failure is dropped."""
        self.barren = 0
        if self.failure is None and self.wanted and not self.complete:
            try:
                self.answer.add(piece)
            except Rejection as failure:
                self.failure = failure

    def finish(self, keep: bool) -> None:
        """A message is whole."""
        if self.begun:
            self.complete, self.keep = True, keep and not self.complete

    def settle(self) -> bool:
        """Give the result if there is one; whether the connection can take another request."""
        if self.failure is not None:
            self.fail(self.failure)
        elif self.complete or (self.begun and not self.wanted):
            self._succeed()
        return self.complete and self.keep

    def ended(self) -> None:
        """No more bytes will come."""
        unmeasured = b"content-length" not in self.headers and b"transfer-encoding" not in self.headers
        if self.begun and unmeasured:
            self._succeed()
        elif self.heard:
            self.fail(self.answer.failure())
        elif not self.done.done():
            self.done.set_result(False)

    def fail(self, failure: Exception) -> None:
        """The result is an error."""
        if not self.done.done():
            self.done.set_exception(failure)

    def _succeed(self) -> None:
        try:
            self.answer.end()
        except TryAgain as failure:
            self.fail(failure)
        else:
            if not self.done.done():
                self.done.set_result(True)
