"""An image server on loopback that misbehaves on request: what a path begins with says how it is answered.

    /ok/N         the image N                       /truncated/N   half of the announced bytes, then closed
    /404/N        not found (410, 403 likewise)       /reset/N       the connection is cut without an answer
    /flaky/N      500 twice, then the image         /slow/N        a byte every half second, for ever (slow-loris)
    /busy/N       429 with Retry-After, then fine     /html/N        a web page that calls itself an image
    /down/N       500 always                          /bomb/N        a small PNG of 20,000 x 20,000 pixels
    /redirect/N   302 to /ok/N                        /huge/N        a body of 600 MB
    /loop/N       302 to itself                       /gzip/N        the image, Content-Encoding gzip
    /away?URL     302 to URL                          /gzipbomb/N    600 MB of zeros in a small gzip body
    /chunked/N    the image in chunks               /bare/N        no length: the body ends with the connection
    /headers/N    headers without end                 /silent/N      nothing is answered at all

Runs in a thread of the test, or as a program of its own for benchmarks: ``python -m tests.helpers.image_server DIR``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

HUGE_BYTES = 600_000_000
_CHUNK = b"\0" * 1_000_000


class ImageServer:
    """Answers for ``images`` (N is taken modulo their number), each answer ``latency_s`` late; counts requests."""

    def __init__(self, images: list[bytes], latency_s: float = 0.0, retry_after: str = "0.2") -> None:
        self.images = images
        self.latency_s = latency_s
        self.retry_after = retry_after
        self.requests: Counter[str] = Counter()
        self.open: set[asyncio.Transport] = set()
        self.open_most = 0
        self.bytes_sent = 0
        self.url = ""

    async def start(self, port: int = 0) -> asyncio.Server:
        """Listen on 127.0.0.1."""
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    def image(self, path: str) -> bytes:
        """The image a path asks for."""
        return self.images[int(path.split("?")[0].rsplit("/", 1)[-1].split(".")[0]) % len(self.images)]


class _Connection(asyncio.Protocol):
    """One connection: requests are read one after the other, the first part of the path names the answer."""

    def __init__(self, server: ImageServer) -> None:
        self.server = server
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.open.add(transport)
        self.server.open_most = max(self.server.open_most, len(self.server.open))

    def connection_lost(self, error: Exception | None) -> None:
        self.server.open.discard(self.transport)
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            path = head.split(b" ", 2)[1].decode()
            self.server.requests[path] += 1
            asyncio.get_running_loop().call_later(self.server.latency_s, self.answer, path)

    def answer(self, path: str) -> None:
        if not self.transport.is_closing():
            kind = path.lstrip("/").split("/")[0].split("?")[0]
            ANSWERS[kind](self, path)

    def send(self, status: str, body: bytes, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.transport.write("\r\n".join(lines).encode() + body)

    def ok(self, path: str) -> None:
        self.send("200 OK", self.server.image(path), "Content-Type: image/jpeg")

    def missing(self, path: str) -> None:
        status = path.split("/")[1]
        self.send(f"{status} No", b"no such image", "Content-Type: text/plain")

    def down(self, _: str) -> None:
        self.send("500 Internal Server Error", b"")

    def flaky(self, path: str) -> None:
        if self.server.requests[path] <= 2:
            self.down(path)
        else:
            self.ok(path)

    def busy(self, path: str) -> None:
        if self.server.requests[path] == 1:
            self.send("429 Too Many Requests", b"", f"Retry-After: {self.server.retry_after}")
        else:
            self.ok(path)

    def redirect(self, path: str) -> None:
        self.send("302 Found", b"", f"Location: /ok/{path.rsplit('/', 1)[-1]}")

    def loop(self, path: str) -> None:
        self.send("302 Found", b"", f"Location: {path}")

    def away(self, path: str) -> None:
        self.send("302 Found", b"", f"Location: {path.split('?', 1)[1]}")

    def truncated(self, path: str) -> None:
        body = self.server.image(path)
        self.transport.write(
            f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2]
        )
        self.transport.close()

    def reset(self, _: str) -> None:
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # a reset instead of a goodbye
        self.transport.abort()

    def slow(self, path: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        self.task = asyncio.ensure_future(self._drip(self.server.image(path), 0.5))

    def headers(self, _: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\n")
        self.task = asyncio.ensure_future(self._drip(b"X-Filler: 1\r\n" * 10_000, 0.05))

    def silent(self, _: str) -> None:
        pass

    async def _drip(self, body: bytes, pause_s: float) -> None:
        for at in range(len(body)):
            self.transport.write(body[at : at + 1])
            await asyncio.sleep(pause_s)

    def html(self, _: str) -> None:
        self.send("200 OK", b"<!DOCTYPE html><html><body>Sold out</body></html>", "Content-Type: image/jpeg")

    def bomb(self, _: str) -> None:
        self.send("200 OK", png_bomb(), "Content-Type: image/png")

    def huge(self, path: str) -> None:
        self.transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {HUGE_BYTES}\r\n\r\n".encode())
        self.transport.write(self.server.image(path))
        self.task = asyncio.ensure_future(self._pour())

    def chunkedhuge(self, path: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.server.image(path))
        self.task = asyncio.ensure_future(self._pour())

    async def _pour(self) -> None:
        self.server.bytes_sent = 0
        while self.server.bytes_sent < HUGE_BYTES and not self.transport.is_closing():
            if self.transport.get_write_buffer_size() < 2_000_000:
                self.transport.write(_CHUNK)
                self.server.bytes_sent += len(_CHUNK)
            await asyncio.sleep(0.001)

    def gzip(self, path: str) -> None:
        squeeze = zlib.compressobj(wbits=31)
        body = squeeze.compress(self.server.image(path)) + squeeze.flush()
        self.send("200 OK", body, "Content-Encoding: gzip", "Content-Type: image/jpeg")

    def gzipbomb(self, _: str) -> None:
        self.send("200 OK", gzip_bomb(), "Content-Encoding: gzip", "Content-Type: image/jpeg")

    def chunked(self, path: str) -> None:
        body = self.server.image(path)
        parts = [body[at : at + 5000] for at in range(0, len(body), 5000)]
        chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")

    def bare(self, path: str) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + self.server.image(path))
        self.transport.close()


ANSWERS: dict[str, Callable[[_Connection, str], None]] = {
    name: getattr(_Connection, name)
    for name in (
        "ok", "down", "flaky", "busy", "redirect", "loop", "away", "truncated", "reset", "slow", "headers", "silent",
        "html", "bomb", "huge", "chunkedhuge", "gzip", "gzipbomb", "chunked", "bare",
    )
}  # fmt: skip
ANSWERS |= dict.fromkeys(("403", "404", "410"), _Connection.missing)


@functools.cache
def png_bomb(side: int = 20_000) -> bytes:
    """A gray PNG of side x side black pixels, some 400 kB long; only its last check sum is wrong."""
    squeeze, rows = zlib.compressobj(9), b"\0" * (side + 1) * 50
    first = squeeze.compress(rows) + squeeze.flush(zlib.Z_FULL_FLUSH)
    again = squeeze.compress(rows) + squeeze.flush(zlib.Z_FULL_FLUSH)
    body = first + again * (side // 50 - 1) + squeeze.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*c) for c in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def gzip_bomb() -> bytes:
    """600 MB of zeros, as a gzip body of about 600 kB (its check sum is wrong: nobody should get that far)."""
    squeeze = zlib.compressobj(9, wbits=31)
    first = squeeze.compress(_CHUNK) + squeeze.flush(zlib.Z_FULL_FLUSH)
    again = squeeze.compress(_CHUNK) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return first + again * (HUGE_BYTES // len(_CHUNK) - 1) + squeeze.flush()


@contextlib.contextmanager
def running(server: ImageServer) -> Iterator[ImageServer]:
    """The server in a thread of its own, until the block ends."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        listening = await server.start()
        ready.set()
        await stop.wait()
        listening.close()
        for transport in list(server.open):
            transport.abort()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10), "the server did not start"
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def main() -> None:
    """Serve the images of a folder until standard input ends; prints the address first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.05)
    options = parser.parse_args()
    images = [path.read_bytes() for path in sorted(options.folder.glob("*.jpg"))]

    async def serve() -> None:
        server = ImageServer(images, options.latency)
        await server.start()
        print(server.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input_ends)

    asyncio.run(serve())


def input_ends() -> None:
    """Return when the parent closes the pipe (or dies)."""
    import sys

    sys.stdin.read()


if __name__ == "__main__":
    main()
