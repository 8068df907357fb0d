"""How an address, a pause and a content encoding are written in HTTP.

Sources: RFC 3986 (addresses), RFC 9110 sections 8.4 (content encoding) and 10.2.3 (Retry-After).
"""

from __future__ import annotations

import base64
import time
import zlib
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote, urlsplit

from phisight import __version__
from phisight.data.outcomes import Refusal


def wire_form(url: str) -> tuple[str, list[tuple[bytes | str, bytes | str]]]:
    """The address as it is sent (ASCII, no user, no fragment) and the request's headers."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise Refusal("bad_url", "the host's name cannot be encoded") from error
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]") if parts.query else ""
    headers = {
        "Host": host + port,
        "User-Agent": f"phisight/{__version__}",
        "Accept": "image/*,*/*;q=0.5",
        "Accept-Encoding": "identity",
    }
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
    return f"{parts.scheme.lower()}://{host}{port}{path}{query}", list(headers.items())


def redirect_target(answer: dict[bytes, str]) -> str:
    """Where a redirect leads; Refusal when it does not say."""
    target = answer.get(b"location", "").strip()
    if not target:
        raise Refusal("redirects", "a redirect without a target")
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
    """What undoes a content encoding; none: there is nothing to undo. Refusal for one that is not known."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=47 if name != "deflate" else 15)
    raise Refusal("bad_encoding", f"content encoding {name[:20]!r} was not asked for")


def decoded(decoder: zlib._Decompress, chunk: bytes, room: int) -> bytes:
    """At most ``room`` bytes of the plain body."""
    try:
        return decoder.decompress(chunk, room)
    except zlib.error as error:
        raise Refusal("bad_encoding", "the body is not what its content encoding says") from error
