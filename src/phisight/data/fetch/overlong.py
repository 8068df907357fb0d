"""Read a response that holds more bytes than it announces, with the HTTP parser of the standard library.

aiohttp's parser drops a response when bytes that belong to no response follow it in one packet. Some servers send such
bytes; the image before them is whole. This runs in a thread and dials an address that the SSRF guard has checked.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import NamedTuple
from urllib.parse import urlsplit

_PIECE = 65_536


class Overlong(NamedTuple):
    """A request to be read so."""

    address: str
    """Checked address to dial."""
    host: str
    port: int
    context: ssl.SSLContext | None
    url: str
    headers: dict[str, str]
    read_s: float
    """Seconds for all of it."""
    max_bytes: int


class Response(NamedTuple):
    """A whole response."""

    status: int
    encoding: str
    body: bytes


def read_overlong(request: Overlong) -> Response:
    """The response as far as its announced length; OSError when none comes in time."""
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    deadline = time.monotonic() + request.read_s
    with socket.create_connection((request.address, request.port), timeout=request.read_s) as plain:
        stream = request.context.wrap_socket(plain, server_hostname=request.host) if request.context else plain
        with stream:
            stream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            received = bytearray()
            while len(received) <= request.max_bytes + _PIECE:
                stream.settimeout(max(0.01, deadline - time.monotonic()))
                piece = stream.recv(_PIECE)
                received += piece
                response = _parsed(bytes(received), request.max_bytes) if b"\r\n\r\n" in received else None
                if response is not None:
                    return response
                if not piece:
                    break
    raise ConnectionError("no whole response")


class _Replay:
    """What HTTPResponse needs of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parsed(received: bytes, max_bytes: int) -> Response | None:
    """The response in what was received; None while it is not whole."""
    response = http.client.HTTPResponse(_Replay(received), method="GET")  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read(max_bytes + 1)
    except http.client.IncompleteRead:
        return None
    except http.client.HTTPException as error:
        raise ConnectionError("no response") from error
    if len(set(response.headers.get_all("Content-Length", []))) > 1:
        raise ConnectionError("two lengths")
    if response.length is None and not response.chunked:
        return None  # ends with the connection: nothing can follow it
    return None if response.length else Response(response.status, response.getheader("Content-Encoding", ""), body)
