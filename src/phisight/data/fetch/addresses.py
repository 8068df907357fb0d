"""Addresses of images as text: checked, shown without secrets, encoded for the wire.

Source: RFC 3986. ``//host/path`` and ``host`` of a redirect may lack the scheme: https is assumed in tables.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from phisight.data.images.rejection import Rejection

OBJECT_STORES = {"s3": "s3", "gs": "gs", "gcs": "gs"}
"""Schemes that fsspec reads, and the extra each needs."""
_SPACES = re.compile(r"[\s\x00-\x1f\x7f]")
_TAIL = re.compile(r"(?:\?|[#;](?=.*=)).*", re.DOTALL)
"""A query, or a fragment or path parameter that sets something."""
_USER = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?/*)[^/]*:[^/]*@")
_NESTED = re.compile(r"(://)[^/]*@")
"""User and password of an address within a path."""
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"
_QUERY_SAFE = _PATH_SAFE + "?[]"


def is_address(text: str) -> bool:
    """Whether a cell is an address rather than a path: it begins with a scheme (not file) or with ``//``."""
    scheme, colon, _ = text.partition(":")
    named = bool(colon) and len(scheme) > 1 and scheme.isalnum() and "://" in text and scheme.lower() != "file"
    return named or text.startswith("//") or text.lower().startswith("data:")


def checked_address(text: str) -> str:
    """The address with its scheme when it can be fetched; Rejection otherwise."""
    url = f"https:{text}" if text.startswith("//") else text
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Rejection("bad_url", "the address cannot be read") from error
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https", *OBJECT_STORES):
        raise Rejection("bad_url", f"scheme {parts.scheme[:20]!r}; only http, https, s3 and gs are fetched")
    if not host:
        raise Rejection("bad_url", "the address has no host")
    if scheme in OBJECT_STORES:
        _check_object(parts.netloc, url)
    if _SPACES.search(url) and scheme not in OBJECT_STORES:
        raise Rejection("bad_url", "the address holds spaces or control characters")
    return url


def _check_object(bucket: str, url: str) -> None:
    """Rejection for what fsspec would read more into than a bucket and a key: credentials, ports, chained addresses."""
    if "@" in bucket or ":" in bucket:
        raise Rejection("bad_url", "the address of a bucket holds a user, password or port")
    if "::" in url:
        raise Rejection("bad_url", "'::' chains addresses, which is not read")


def redacted(text: str) -> str:
    """An address for people and files: scheme, host, port and path; no user, password, query or fragment.

    A text that is no address as it should be loses what looks like any of them.
    """
    if text.lower().startswith("data:"):
        return "data:"
    try:
        parts = urlsplit(text)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(no address)"
    if not parts.netloc:
        return _printable(_USER.sub(r"\1", _NESTED.sub(r"\1", _TAIL.sub("", text))))[:500]
    scheme = f"{parts.scheme}:" if parts.scheme else ""
    if ":" in parts.netloc and "@" in parts.path:  # a password with a slash ends where a path seems to
        path = _TAIL.sub("", parts.path.rpartition("@")[2])
        return _printable(f"{scheme}//{path}")[:500]
    path = _NESTED.sub(r"\1", _TAIL.sub("", parts.path))
    return _printable(f"{scheme}//{host}{port}{path}")[:500]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def encoded(url: str) -> str:
    """The address as it goes over the wire: ASCII, no user, no fragment; Rejection for a host that has no such form."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise Rejection("bad_url", "the host's name cannot be encoded") from error
    host = f"[{host}]" if ":" in host else host
    place = f"{host}:{parts.port}" if parts.port else host
    path, query = quote(parts.path or "/", safe=_PATH_SAFE), quote(parts.query, safe=_QUERY_SAFE)
    return urlunsplit((parts.scheme.lower(), place, path, query, ""))


def credentials(url: str) -> tuple[str, str] | None:
    """User and password of an address."""
    parts = urlsplit(url)
    return None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))


def redirect_target(url: str, location: bytes | None) -> str:
    """Where a redirect leads; Rejection when it does not say or cannot be read.

    Raw UTF-8 and spaces, which a Location must not hold but often does, are encoded.
    """
    if not location or not location.strip():
        raise Rejection("redirects", "a redirect without a target")
    try:
        text = location.strip().decode("utf-8")
    except UnicodeDecodeError:
        text = location.strip().decode("latin-1")
    try:
        target = urljoin(url, text.replace(" ", "%20"))
        if urlsplit(target).scheme.lower() in OBJECT_STORES:
            raise Rejection("redirects", "a redirect out of the web")
    except ValueError as error:
        raise Rejection("redirects", "a redirect to an address that cannot be read") from error
    return checked_address(target)


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
