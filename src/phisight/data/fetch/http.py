"""One HTTP request: aiohttp's connections behind the SSRF guard, and the body under a cap.

    status -> length announced -> body, its content encoding undone -> a file at its start

Redirects, retries and limits over several requests are the client's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from phisight import __version__
from phisight.data.fetch.addresses import credentials, encoded, redirect_target
from phisight.data.fetch.content_encoding import Decoder
from phisight.data.fetch.failures import TransientError, check_status
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.overlong import Overlong, read_overlong
from phisight.data.fetch.ssrf_guard import Guard
from phisight.data.images.rejection import Rejection

_SPOOL_BYTES = 1_000_000
_REDIRECTS = {301, 302, 303, 307, 308}
_UNREADABLE = 400
"""aiohttp's status of a response that its parser cannot read."""
_IDLE_S = 15.0
_HOSTS_REMEMBERED = 10_000
_HEADERS = {
    "User-Agent": f"phisight/{__version__}",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",
}


class Http:
    """Sends requests over connections that are kept for the next ones."""

    def __init__(self, limits: FetchLimits, max_bytes: int, context: ssl.SSLContext | None = None) -> None:
        self._limits = limits
        self._max_bytes = max_bytes
        self._guard = Guard(limits.allow_private)
        self._context = context
        self._checked_hosts: set[str] = set()
        self._direct: aiohttp.ClientSession | None = None
        self._proxied: aiohttp.ClientSession | None = None
        self._proxies = urllib.request.getproxies() if limits.proxy == "env" else {}

    async def close(self) -> None:
        """Cut every connection."""
        for session in (self._direct, self._proxied):
            if session is not None:
                await session.close()
        await asyncio.sleep(0)  # transports close in the next turn of the loop

    async def get(self, url: str, headers: dict[str, str]) -> IO[bytes] | str:
        """The body behind an address, or where a redirect leads.

        ``headers`` are added to the usual ones. Raises Rejection (permanent) or TransientError.
        """
        target = encoded(url)
        host = urlsplit(target).hostname or ""
        if host not in self._checked_hosts:
            self._guard.check_literal(host)
            self._remember(host)
        sent = _HEADERS | headers | _authorization(url)
        proxy = self._proxy_for(target)
        if proxy is not None:
            await self._check_before_proxy(host)
        session = self._session(proxied=proxy is not None)
        with _errors_named():
            try:
                async with session.get(
                    URL(target, encoded=True), headers=sent, allow_redirects=False, proxy=proxy
                ) as response:
                    return await self._read(url, response)
            except aiohttp.ClientResponseError as error:
                if proxy is not None or error.status != _UNREADABLE:
                    raise
            return await self._read_again(target, sent)

    def _remember(self, host: str) -> None:
        """Note a host whose spelling was checked; each connection checks where its name leads all the same."""
        if len(self._checked_hosts) >= _HOSTS_REMEMBERED:
            self._checked_hosts.clear()
        self._checked_hosts.add(host)

    def _session(self, proxied: bool) -> aiohttp.ClientSession:
        """The session for direct or proxied requests; behind a proxy the connection goes to the proxy's own address."""
        session = self._proxied if proxied else self._direct
        if session is None:
            guard = Guard(allow_private=True) if proxied else self._guard
            connector = aiohttp.TCPConnector(
                resolver=guard,
                socket_factory=guard.open_socket,
                ssl=self._tls() or True,
                limit=self._limits.connections,
                keepalive_timeout=_IDLE_S,
                ttl_dns_cache=60,
            )
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=self._limits.connect_s, sock_read=self._limits.read_s
            )
            session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding",),
            )
            if proxied:
                self._proxied = session
            else:
                self._direct = session
        return session

    def _tls(self) -> ssl.SSLContext | None:
        """Own certificate authorities; None: aiohttp's default, which workers inherit (a new one takes 0.1 s)."""
        if self._context is None and self._limits.ca_bundle is not None:
            self._context = ssl.create_default_context()
            self._context.load_verify_locations(cafile=self._limits.ca_bundle)
        return self._context

    def _proxy_for(self, url: str) -> str | None:
        """The proxy of the environment for an address; None without ``--proxy env``."""
        parts = urlsplit(url)
        if not self._proxies or urllib.request.proxy_bypass(parts.netloc):
            return None
        return self._proxies.get(parts.scheme) or self._proxies.get("all")

    async def _check_before_proxy(self, host: str) -> None:
        """Check where a name leads as far as this machine can tell; what it cannot resolve, the proxy judges."""
        try:
            await self._guard.resolve(host)
        except Rejection as rejection:
            if rejection.kind != "no_address":
                raise

    async def _read(self, url: str, response: aiohttp.ClientResponse) -> IO[bytes] | str:
        if response.status in _REDIRECTS:
            locations = [value for name, value in response.raw_headers if name.lower() == b"location"]
            return redirect_target(url, locations[0] if locations else None)
        check_status(response.status, response.headers.get("Retry-After"))
        body = Body(self._max_bytes, response.headers.get("Content-Encoding", ""), response.content_length)
        try:
            async for piece in response.content.iter_any():
                body.add(piece)
            return body.finished()
        except BaseException:
            body.discard()
            raise

    async def _read_again(self, target: str, headers: dict[str, str]) -> IO[bytes]:
        """Read a response that aiohttp cannot: more bytes than it announces, all in one packet."""
        parts = urlsplit(target)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        address = (await self._guard.resolve(host, port))[0]["host"]
        secure = (self._tls() or ssl.create_default_context()) if parts.scheme == "https" else None
        request = Overlong(address, host, port, secure, target, headers, self._limits.read_s, self._max_bytes)
        try:
            response = await asyncio.to_thread(read_overlong, request)
        except OSError as error:
            raise TransientError(Rejection("connection", "the response cannot be read")) from error
        if response.status != 200:
            raise TransientError(Rejection("connection", "the response cannot be read"))
        body = Body(self._max_bytes, response.encoding, len(response.body))
        body.add(response.body)
        return body.finished()


class Body:
    """A body as it comes in, in memory while small."""

    def __init__(self, max_bytes: int, encoding: str, announced: int | None) -> None:
        if announced is not None and announced > max_bytes:
            raise Rejection("too_large", f"{announced} bytes announced, more than the {max_bytes} allowed")
        self._decoder = Decoder(encoding)
        self._max_bytes = max_bytes
        self._size = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - handed to the caller

    def add(self, piece: bytes) -> None:
        """Append a piece; Rejection past the cap."""
        plain = self._decoder.decode(piece, self._max_bytes - self._size + 1)
        self._size += len(plain)
        if self._size > self._max_bytes:
            raise Rejection("too_large", f"more than the {self._max_bytes} bytes allowed")
        self._file.write(plain)

    def finished(self) -> IO[bytes]:
        """The file at its start; TransientError when the encoding says that something is missing."""
        if not self._decoder.complete:
            raise TransientError(Rejection("incomplete", "the compressed body ends too early"))
        self._file.seek(0)
        return self._file

    def discard(self) -> None:
        """Close the file."""
        self._file.close()


@contextlib.contextmanager
def _errors_named() -> Iterator[None]:
    """aiohttp's errors as TransientError."""
    try:
        yield
    except (aiohttp.ServerTimeoutError, TimeoutError) as error:
        raise TransientError(Rejection("timeout", "no byte within the time limit of a read or a connection")) from error
    except aiohttp.ClientPayloadError as error:
        raise TransientError(Rejection("incomplete", "the connection ended before the body did")) from error
    except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
        raise TransientError(Rejection("connection", "the connection failed or was cut")) from error


def _authorization(url: str) -> dict[str, str]:
    """Basic authorization from the user of an address."""
    known = credentials(url)
    return {} if known is None else {"Authorization": "Basic " + base64.b64encode(":".join(known).encode()).decode()}
