"""How an address, a pause and a content encoding are written in HTTP.

Sources: RFC 3986 (addresses), RFC 9110 sections 8.4 (content encoding) and 10.2.3 (Retry-After).
"""

from __future__ import annotations

import base64
import time
import zlib
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from phisight import __version__
from phisight.data.images.rejection import Rejection

_PORTS = {"http": 80, "https": 443}


class Request(NamedTuple):
    """A GET request as it goes over the wire: ASCII, no user, no fragment."""

    scheme: str
    host: str
    """To resolve, and to check a certificate against; an IPv6 address without brackets."""
    port: int
    authority: str
    """Host header: brackets and port included."""
    target: str
    """Path and query."""
    headers: dict[str, str]

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a connection can be kept for."""
        return self.scheme, self.host, self.port

    @property
    def head(self) -> bytes:
        """The request in HTTP/1.1."""
        lines = [f"GET {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("ascii")


def wire_form(url: str) -> Request:
    """The request for an address; Rejection for a host whose name cannot be encoded."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise Rejection("bad_url", "the host's name cannot be encoded") from error
    scheme, shown = parts.scheme.lower(), f"[{host}]" if ":" in host else host
    authority = f"{shown}:{parts.port}" if parts.port else shown
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]") if parts.query else ""
    headers = {
        "Host": authority,
        "User-Agent": f"phisight/{__version__}",
        "Accept": "image/*,*/*;q=0.5",
        "Accept-Encoding": "identity",
    }
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
    return Request(scheme, host, parts.port or _PORTS[scheme], authority, path + query, headers)


def redirect_target(headers: dict[bytes, bytes]) -> str:
    """Where a redirect leads; Rejection when it does not say."""
    target = headers.get(b"location", b"").decode("latin-1").strip()
    if not target:
        raise Rejection("redirects", "a redirect without a target")
    return target


def retry_after(value: str | None) -> float | None:
    """Seconds a server asks to wait: a number or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def decoder_for(encoding: str) -> zlib._Decompress | None:
    """What undoes a content encoding; none: there is nothing to undo. Rejection for one that is not known."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=47 if name != "deflate" else 15)
    raise Rejection("bad_encoding", f"content encoding {name[:20]!r} was not asked for")


def decoded(decoder: zlib._Decompress, chunk: bytes, room: int) -> bytes:
    """At most ``room`` bytes of the plain body."""
    try:
        return decoder.decompress(chunk, room)
    except zlib.error as error:
        raise Rejection("bad_encoding", "the body is not what its content encoding says") from error
