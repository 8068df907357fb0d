"""Undo the content encoding of a body piece by piece, under a cap. Source: RFC 9110 section 8.4, RFC 1952, RFC 1950."""

from __future__ import annotations

import zlib

from phisight.data.images.rejection import Rejection


class Decoder:
    """gzip (of one or more members), deflate (with or without its zlib header) or nothing."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Rejection("bad_encoding", f"content encoding {name[:20]!r} was not asked for")
        self._window = {"gzip": 31, "x-gzip": 31, "deflate": 15}.get(name)
        self._inner = zlib.decompressobj(wbits=self._window) if self._window else None
        self._began = self._members = 0

    def decode(self, piece: bytes, room: int) -> bytes:
        """At most ``room`` bytes of the plain body; Rejection for a piece that is not so encoded."""
        if self._inner is None:
            return piece
        parts: list[bytes] = []
        while piece and room > 0:
            if self._inner.eof and not self._next_member(piece):
                break
            try:
                part = self._inner.decompress(piece, room)
            except zlib.error as error:
                if self._window == 15 and not self._began:
                    self._window, self._inner = -15, zlib.decompressobj(wbits=-15)
                    continue
                raise Rejection("bad_encoding", "the body is not what its content encoding says") from error
            self._began += len(piece)
            parts.append(part)
            room -= len(part)
            piece = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
        return b"".join(parts)

    def _next_member(self, rest: bytes) -> bool:
        """Begin another gzip member; what else follows the end of a body is dropped."""
        if self._window != 31 or not rest.startswith(b"\x1f"):
            return False
        self._inner = zlib.decompressobj(wbits=31)
        return True

    @property
    def complete(self) -> bool:
        """Whether the body may end here."""
        return self._inner is None or self._inner.eof
