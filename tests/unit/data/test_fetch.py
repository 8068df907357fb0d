"""Fetching: what is transient is tried again, what is permanent is not, and nothing runs past its limit."""

import asyncio
import contextlib
import shutil
import ssl
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.rejection import KINDS, Rejection
from tests.helpers.certificate import certificate
from tests.helpers.image_server import HUGE_BYTES, ImageServer, running

QUICK = FetchLimits(total_s=2.5, read_s=1.5, connect_s=1.5, backoff_s=0.02, allow_private=True)
CAP = 5_000_000


async def one_body(fetcher: Fetcher, url: str) -> bytes | Rejection:
    try:
        with await fetcher.fetch(url) as body:
            return body.read()
    except Rejection as rejection:
        return rejection


def fetch_all(urls: list[str], limits: FetchLimits = QUICK, cap: int = CAP) -> list[bytes | Rejection]:
    async def every() -> list[bytes | Rejection]:
        async with Fetcher(limits, cap) as fetcher:
            return list(await asyncio.gather(*(one_body(fetcher, url) for url in urls)))

    return asyncio.run(every())


def fetch(url: str, limits: FetchLimits = QUICK, cap: int = CAP) -> bytes | Rejection:
    return fetch_all([url], limits, cap)[0]


@pytest.mark.parametrize("kind", ["ok", "flaky", "busy", "redirect", "gzip", "chunked", "bare"])
def test_what_can_be_had_is_had(server: ImageServer, jpegs: list[bytes], kind: str) -> None:
    assert fetch(f"{server.url}/{kind}/7") == jpegs[7]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rejected", "requests"),
    [
        ("404", "not_found", 1),
        ("410", "not_found", 1),
        ("403", "http_status", 1),
        ("down", "server_error", 4),
        ("truncated", "incomplete", 4),
        ("reset", "connection", 8),  # aiohttp repeats a request whose connection is cut before a byte of response
        ("slow", "timeout", 1),
        ("headers", "timeout", 1),
        ("silent", "timeout", 2),
        ("loop", "redirects", 6),
        ("huge", "too_large", 1),
        ("chunkedhuge", "too_large", 1),
        ("gzipbomb", "too_large", 1),
    ],
)
def test_what_cannot_be_had_is_named(server: ImageServer, kind: str, rejected: str, requests: int) -> None:
    path = f"/{kind}/3"
    result = fetch(server.url + path)
    assert isinstance(result, Rejection), result
    assert result.kind == rejected
    assert server.requests[path] == requests


def test_a_huge_body_stops_at_the_cap_and_costs_no_memory(server: ImageServer) -> None:
    tracemalloc.start()
    try:
        results = fetch_all([f"{server.url}/chunkedhuge/0", f"{server.url}/gzipbomb/0"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [result.kind for result in results if isinstance(result, Rejection)] == ["too_large", "too_large"]
    assert server.bytes_sent < HUGE_BYTES / 5
    assert peak < 60_000_000


def test_connections_are_reused_and_bounded_for_each_host(server: ImageServer, jpegs: list[bytes]) -> None:
    server.latency_s = 0.01
    bodies = fetch_all([f"{server.url}/ok/{n}" for n in range(40)], replace(QUICK, per_host=4))
    assert bodies == jpegs
    assert server.open_most <= 4


def answers(*connections: list[bytes]) -> tuple[list[bytes | Rejection], int]:
    """Two fetches one after the other from a server whose n-th connection gives these answers, then ends."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for body in connections[count - 1]:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(body)
                await writer.drain()
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def run() -> list[bytes | Rejection]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with Fetcher(replace(QUICK, attempts=1), CAP) as fetcher:
            found = [await one_body(fetcher, url), await one_body(fetcher, url)]
        server.close()
        return found

    return asyncio.run(run()), count


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"


def test_a_kept_connection_that_died_costs_no_attempt() -> None:
    assert answers([OK], [OK]) == ([b"ab", b"ab"], 2)


@pytest.mark.parametrize("rest", [b"garbage", b"\r\n\r\n", b"\0" * 5000, b"<html>", b"ab"])
def test_bytes_after_a_whole_body_are_dropped(rest: bytes) -> None:
    bodies, _ = answers([OK + rest], [OK + rest], [OK + rest], [OK + rest])
    assert bodies == [b"ab", b"ab"]


def test_bytes_nobody_asked_for_end_a_connection() -> None:
    bodies, connections = answers([OK + OK.replace(b"ab", b"xy")], [OK])
    assert (bodies, connections) == ([b"ab", b"ab"], 2), "the second answer must not become that of another image"


def test_answers_before_the_answer_are_skipped() -> None:
    assert answers([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, OK]) == ([b"ab", b"ab"], 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 20_000, "connection"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"1" * 120_000, "connection"),
        (b"nonsense\r\n\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab", "connection"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nab", "connection"),
    ],
)
def test_nonsense_is_named_and_its_connection_is_not_kept(answer: bytes, kind: str) -> None:
    (first, *_), _ = answers([answer], [answer], [answer], [answer])
    assert isinstance(first, Rejection)
    assert first.kind == kind


def test_a_pause_the_server_asks_for_is_kept(jpegs: list[bytes]) -> None:
    with running(ImageServer(jpegs, retry_after="0.3")) as server:
        urls = [f"{server.url}/busy/{n}" for n in range(3)]
        assert fetch_all(urls, replace(QUICK, total_s=0.2)) == jpegs[:3], "waiting is not the image's time"
    with running(ImageServer(jpegs, retry_after="3600")) as server:
        result = fetch(f"{server.url}/busy/1")
        assert isinstance(result, Rejection)
        assert result.kind == "rate_limited"
        assert server.requests["/busy/1"] == 1


def test_no_secret_in_a_reason(server: ImageServer) -> None:
    for path in ("/404/1", "/down/1", "/truncated/1", "/loop/1"):
        result = fetch(f"{server.url.replace('//', '//me:hunter2@')}{path}?token=hunter3")
        assert isinstance(result, Rejection)
        assert "hunter" not in result.reason


def test_kinds_that_heal_are_the_ones_that_were_tried_again() -> None:
    assert {kind for kind, (persistence, _) in KINDS.items() if persistence == "transient"} == {
        "missing_file", "no_address", "connection", "timeout", "rate_limited", "server_error", "incomplete",
        "internal", "no_decoder",
    }  # fmt: skip


@pytest.mark.process
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command to make a certificate with")
def test_http1_over_tls_checks_the_certificate(jpegs: list[bytes], tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    body = jpegs[0] * 200
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                requests += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async def run(trusted: ssl.SSLContext | None) -> list[bytes | Rejection]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        async with Fetcher(replace(QUICK, attempts=1, total_s=20), CAP, trusted) as fetcher:
            found = [await one_body(fetcher, f"{url}/{n}") for n in range(3)]
        server.close()
        await asyncio.sleep(0.05)
        return found

    assert asyncio.run(run(ssl.create_default_context(cafile=str(cert)))) == [body] * 3
    assert requests == 3
    strangers = asyncio.run(run(None))
    assert [result.kind for result in strangers if isinstance(result, Rejection)] == ["connection"] * 3
    assert requests == 3, "nothing may be sent to a server whose certificate does not hold"
