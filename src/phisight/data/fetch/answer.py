"""One answer of a server as it comes in: status, then the body under the cap, its content encoding undone under it too.

The same object serves HTTP/1.1 and HTTP/2: the protocol calls ``begin`` once, ``add`` for each piece and ``end``.
"""

from __future__ import annotations

import tempfile
from typing import IO

from phisight.data.fetch.wire import decoded, decoder_for, redirect_target, retry_after
from phisight.data.images.rejection import Rejection

_SPOOL_BYTES = 1_000_000
_RETRIED_STATUS = {408, 425, 429, *range(500, 600)}
_REDIRECTS = {301, 302, 303, 307, 308}


class TryAgain(Exception):  # noqa: N818 - a signal between fetching and its protocols
    """An attempt failed in a way that can heal; ``pause_s`` is the server's wish."""

    def __init__(self, rejection: Rejection, pause_s: float | None = None) -> None:
        super().__init__(rejection.reason)
        self.rejection = rejection
        self.pause_s = pause_s


class Answer:
    """Takes the parts of one answer; ``target`` or ``body`` is what came of it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.target: str | None = None
        """Where a redirect leads."""
        self.body: IO[bytes] | None = None
        """In memory while small; the caller closes it."""
        self._size = 0

    def begin(self, status: int, headers: dict[bytes, bytes]) -> bool:
        """Whether the body is wanted; names in lower case. Rejection or TryAgain when there is nothing to be had."""
        if status in _REDIRECTS:
            self.target = redirect_target(headers)
            return False
        _check_status(status, headers)
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.max_bytes:
            raise Rejection("too_large", f"{int(announced)} bytes announced, more than the {self.max_bytes} allowed")
        self._decoder = decoder_for(headers.get(b"content-encoding", b"").decode("latin-1"))
        self.body = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - handed to the caller
        return True

    def add(self, piece: bytes) -> None:
        """Append to the body; Rejection past the cap."""
        assert self.body is not None
        if self._decoder is not None:
            piece = decoded(self._decoder, piece, self.max_bytes - self._size + 1)
        self._size += len(piece)
        if self._size > self.max_bytes:
            raise Rejection("too_large", f"more than the {self.max_bytes} bytes allowed")
        self.body.write(piece)

    def end(self) -> None:
        """The body is whole as far as HTTP goes; TryAgain when its encoding says otherwise."""
        if self.body is None:
            return
        if self._decoder is not None and not self._decoder.eof:
            raise TryAgain(Rejection("incomplete", "the compressed body ends too early"))
        self.body.seek(0)

    def failure(self) -> TryAgain:
        """What a connection that was cut or spoke nonsense means at this point."""
        if self.body is not None:
            return TryAgain(Rejection("incomplete", "the connection ended before the body did"))
        return TryAgain(Rejection("connection", "the connection failed or was cut"))

    def discard(self) -> None:
        """Forget what came in."""
        if self.body is not None:
            self.body.close()
            self.body = None


def silent() -> TryAgain:
    """A connection on which nothing happened for too long."""
    return TryAgain(Rejection("timeout", "no byte within the time limit of a read or a connection"))


def _check_status(status: int, headers: dict[bytes, bytes]) -> None:
    if 200 <= status < 300:
        return
    if status in (404, 410):
        raise Rejection("not_found", f"status {status}")
    if status not in _RETRIED_STATUS:
        raise Rejection("http_status", f"status {status}")
    kind = "rate_limited" if status == 429 else "server_error"
    value = headers.get(b"retry-after")
    raise TryAgain(Rejection(kind, f"status {status}"), retry_after(value.decode("latin-1") if value else None))
