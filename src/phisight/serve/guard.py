"""What every request passes first: host, origin, key, rate, size and time of its body; and the line in the log.

A browser that was lured here by a renamed host or a foreign page is refused before anything is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phisight.serve.access import Access
from phisight.serve.engine.measurements import Measurements
from phisight.serve.protocol.api_error import ApiError, name_and_place, printable, refused
from phisight.serve.serve_settings import ServeSettings, is_loopback

_LOG = logging.getLogger("phisight.serve")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
OPEN_PATHS = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json", "/favicon.ico"})
"""What anybody may see without a key."""
_LINGER_S, _LINGER_BYTES = 2.0, 64_000_000
"""How long, and for how much, a body that is refused is still read, so that its sender sees the answer."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Middleware around the application.

    Args:
        app: What answers.
        settings: Hosts, origins, caps.
        access: Keys and rates.
        measurements: Gets figures.
        paths: Paths with a name of their own in the figures.
    """

    def __init__(
        self, app: ASGIApp, settings: ServeSettings, access: Access, measurements: Measurements, paths: frozenset[str]
    ) -> None:
        self._app, self._settings, self._access = app, settings, access
        self._measurements, self._paths = measurements, paths
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        seen = _Seen(given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex, send)
        scope.setdefault("state", {}).update(log=seen.log, request_id=seen.id)
        try:
            await self._checked(scope, headers, receive, seen)
        except ApiError as error:
            await _answer(error, seen.send, lingering=None if seen.read else receive)
        except asyncio.CancelledError:
            seen.log["ended"] = "cancelled"
            raise
        except Exception as error:
            seen.log["error"] = name_and_place(error)
            if not seen.status:
                await _answer(ApiError(500, f"an error of the server; request {seen.id}", code="internal"), seen.send)
        finally:
            self._note(scope, seen)

    async def _checked(self, scope: Scope, headers: Headers, receive: Receive, seen: _Seen) -> None:
        path, method = scope["path"], scope["method"]
        self._check_host(headers)
        if method not in _SAFE_METHODS:
            self._check_origin(headers)
        if path not in OPEN_PATHS and method != "OPTIONS":
            peer = (scope.get("client") or ("unknown",))[0]
            client = self._access.client(headers.get("authorization"), peer)
            scope["state"]["client"] = seen.log["client"] = client
            if method not in _SAFE_METHODS:
                self._access.spend(client)
            _check_query(scope)
        if method in _SAFE_METHODS:
            seen.read = True
            await self._app(scope, receive, seen.send)
            return
        body = await self._body(headers, receive)
        seen.read = True
        try:
            await self._app(scope, _replayed(body, receive), seen.send)
        finally:
            self._held -= len(body)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The body, within size and time; counted as held."""
        most = self._settings.max_body_bytes
        stated = headers.get("content-length", "0")
        if stated.isdigit() and int(stated[:20]) > most:
            raise ApiError(413, f"a body of {stated[:20]} bytes, more than the {most} allowed", code="body_too_large")
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the client left", code="client_gone")
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size > most:
                        raise ApiError(413, f"more than the {most} bytes of body allowed", code="body_too_large")
                    if self._held + len(piece) > self._settings.max_held_bytes:
                        raise ApiError(429, "too many large requests at once", code="memory_full", retry_s=2)
                    self._held += len(piece)
                    pieces.append(piece)
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError:
            self._held -= sum(map(len, pieces))
            raise ApiError(
                408, f"the body was not whole after {self._settings.body_s:g} s", code="body_timeout"
            ) from None
        except BaseException:
            self._held -= sum(map(len, pieces))
            raise

    def _check_host(self, headers: Headers) -> None:
        """DNS rebinding: a page of a foreign name whose address became ours calls us by that name."""
        host = _host_of(headers.get("host", ""))
        allowed = {name.lower() for name in (*self._settings.allow_hosts, "localhost", self._settings.host)}
        if host in allowed or is_loopback(host):
            return
        if not self._settings.local_only and _is_address(host):
            return
        raise ApiError(
            403, f"the host {printable(host)[:80]!r} is not this server's; --allow-host", code="unknown_host"
        )

    def _check_origin(self, headers: Headers) -> None:
        """A page of another origin must not post here."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None:
            own = {f"{scheme}://{headers.get('host', '').lower()}" for scheme in ("http", "https")}
            if origin.lower() in own or origin in self._settings.allow_origins:
                return
        elif site in ("none", "same-origin"):
            return
        raise ApiError(403, "a page of another origin may not ask here; --allow-origin", code="cross_origin")

    def _note(self, scope: Scope, seen: _Seen) -> None:
        path = scope["path"] if scope["path"] in self._paths else "other"
        seconds = time.monotonic() - seen.begin
        self._measurements.answers.labels(path, str(seen.status or "none")).inc()
        if path.startswith("/v1/"):
            self._measurements.request_s.observe(seconds)
        line = {
            "event": "request",
            "request_id": seen.id,
            "method": scope["method"],
            "path": printable(scope["path"])[:200],
            "status": seen.status,
            "seconds": round(seconds, 4),
            **seen.log,
        }
        _LOG.info(json.dumps(line))


class _Seen:
    """What the log tells of a request; sends with the headers of every answer."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.id, self._send = request_id, send
        self.status = 0
        self.read = False
        """Whether nothing of the request is still to be read."""
        self.begin = time.monotonic()
        self.log: dict[str, Any] = {}

    async def send(self, message: Message) -> None:
        """Send a message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
            headers["Referrer-Policy"] = "no-referrer"
        await self._send(message)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, then what comes behind it: the news that the client left."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(
    error: ApiError, send: Callable[[Message], Awaitable[None]], lingering: Receive | None = None
) -> None:
    """Send an error; ``lingering`` reads on for a while what is still coming."""
    body = json.dumps(error.body()).encode()
    headers: Mapping[str, str] = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **({"connection": "close"} if lingering else {}),
        **error.headers(),
    }
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": lingering is not None})
    if lingering is None:
        return
    read = 0
    try:
        async with asyncio.timeout(_LINGER_S):
            while read < _LINGER_BYTES:
                message = await lingering()
                read += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _check_query(scope: Scope) -> None:
    """No endpoint of the protocol has parameters in its address here: they are refused by name."""
    query = scope["query_string"].decode("latin-1")
    if query and scope["path"].startswith("/v1/"):
        named = parse_qsl(query, keep_blank_values=True)
        name = printable((named[0][0] if named else "") or query)[:60]
        raise refused(name, "stands in the address, where this server has no parameters; put it into the body")


def _host_of(text: str) -> str:
    """The name in a Host header, without its port."""
    text = text.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
