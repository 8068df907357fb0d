"""Redirects as servers write them, several gzip members, own headers, proxies, certificates and object stores."""

import asyncio
import contextlib
import gzip
import shutil
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from phisight.core.errors import MissingExtraError, SettingsError
from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits, parse_header
from phisight.data.fetch.object_store import require_library
from phisight.data.images.rejection import Rejection
from tests.helpers.certificate import certificate

QUICK = FetchLimits(total_s=3, read_s=1, connect_s=1, backoff_s=0.02, attempts=1, allow_private=True)


def conversation(
    responses: dict[str, bytes], paths: list[str], limits: FetchLimits = QUICK
) -> tuple[list[bytes | Rejection], list[bytes]]:
    """Fetch paths from a server that gives each of them its response; the results, and the requests that came in."""
    heads: list[bytes] = []

    port = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head)
                target = head.split(b" ", 2)[1].decode()
                response = responses.get(target, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                writer.write(response.replace(b"PORT", str(port).encode()))
                await writer.drain()
        writer.close()

    async def one(fetcher: Fetcher, url: str) -> bytes | Rejection:
        try:
            with await fetcher.fetch(url) as body:
                return body.read()
        except Rejection as rejection:
            return rejection

    async def run() -> list[bytes | Rejection]:
        nonlocal port
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with Fetcher(limits, 1_000_000) as fetcher:
            found = [await one(fetcher, path.replace("PORT", str(port))) for path in paths]
        server.close()
        return found

    return asyncio.run(run()), heads


def ok(body: bytes, *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def moved(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/straße/ü.jpg".encode(), "/stra%C3%9Fe/%C3%BC.jpg"),
        ("/stra\xdfe.jpg".encode("latin-1"), "/stra%C3%9Fe.jpg"),
        (b"/red dress.jpg", "/red%20dress.jpg"),
        (b"/a%20b.jpg?x=1 2", "/a%20b.jpg?x=1%202"),
        (b"//127.0.0.1:PORT/plain.jpg", "/plain.jpg"),
        (b"relative.jpg", "/relative.jpg"),
        (b"  /spaces.jpg  ", "/spaces.jpg"),
    ],
)
def test_a_redirect_in_raw_letters_or_with_spaces_is_followed(location: bytes, target: str) -> None:
    (result,), _ = conversation({"/start": moved(location), target: ok(b"yes")}, ["http://127.0.0.1:PORT/start"])
    assert result == b"yes"


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        (b"http://[bad/x.jpg", "redirects"),
        (b"http://[::1]]:1/x", "connection"),
        (b"http://host:99999/x", "bad_url"),
        (b"https:///x", "bad_url"),
        (b"", "redirects"),
        (b"ftp://host/x", "bad_url"),
        (b"s3://bucket/x", "redirects"),
        (b"http://a\tb.invalid/x", "no_address"),
        (("http://" + "ü" * 70 + ".example/").encode(), "bad_url"),
        (b"\xff\xfe", "not_found"),
    ],
)
def test_a_broken_redirect_is_that_image_s_rejection(location: bytes, kind: str) -> None:
    paths = ["http://127.0.0.1:PORT/start", "http://127.0.0.1:PORT/good"]
    (broken, good), _ = conversation({"/start": moved(location), "/good": ok(b"yes")}, paths)
    assert isinstance(broken, Rejection)
    assert broken.kind == kind
    assert good == b"yes"


def test_a_body_of_several_gzip_members_is_read_to_its_end() -> None:
    first, second = gzip.compress(b"a" * 70_000), gzip.compress(b"b" * 70_000)
    bodies = {
        "/two": ok(first + second, "Content-Encoding: gzip"),
        "/cut": ok(first + second[:-9], "Content-Encoding: gzip"),
        "/rest": ok(first + b"\0" * 100, "Content-Encoding: gzip"),
        "/raw": ok(zlib.compress(b"c" * 9000, wbits=-15), "Content-Encoding: deflate"),
        "/zlib": ok(zlib.compress(b"d" * 9000), "Content-Encoding: deflate"),
        "/none": ok(b"not gzip", "Content-Encoding: gzip"),
    }
    found, _ = conversation(bodies, [f"http://127.0.0.1:PORT{path}" for path in bodies])
    two, cut, rest, raw, plain, none = found
    assert two == b"a" * 70_000 + b"b" * 70_000
    assert isinstance(cut, Rejection)
    assert cut.kind == "incomplete"
    assert rest == b"a" * 70_000
    assert (raw, plain) == (b"c" * 9000, b"d" * 9000)
    assert isinstance(none, Rejection)
    assert none.kind == "bad_encoding"


def test_own_headers_go_to_the_table_s_hosts_only() -> None:
    limits = replace(QUICK, headers=(parse_header("X-Api-Key: hunter2"),))
    assert "hunter2" not in repr(limits)
    responses = {"/start": moved(b"http://localhost:PORT/other"), "/other": ok(b"yes"), "/same": moved(b"/other")}
    _, heads = conversation(responses, ["http://127.0.0.1:PORT/start", "http://127.0.0.1:PORT/same"], limits)
    assert [b"X-Api-Key: hunter2" in head for head in heads] == [True, False, True, True]


def test_user_and_password_of_an_address_are_sent_and_not_in_the_request_line() -> None:
    _, heads = conversation({"/a": ok(b"yes")}, ["http://me:hunter%40@127.0.0.1:PORT/a#frag"])
    assert b"Authorization: Basic bWU6aHVudGVyQA==" in heads[0]
    assert heads[0].startswith(b"GET /a HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "text", ["no colon hunter2", "Bad Name: hunter2", "Host: hunter2", "X: hunter2\r\nY: 1", "é: hunter2"]
)
def test_a_header_that_cannot_be_sent_is_one_line_without_its_value(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_header(text)
    assert "hunter2" not in str(caught.value)


def test_through_a_proxy_the_guard_checks_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "direct.example")
    responses = {"http://shop.invalid/a.jpg": ok(b"by proxy"), "http://127.0.0.1/b.jpg": ok(b"inside")}
    limits = replace(QUICK, proxy="env", allow_private=False)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(responses[head.split(b" ", 2)[1].decode()])
        writer.close()

    async def run() -> tuple[bytes, list[Rejection]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        refused = []
        async with Fetcher(limits, 1000) as fetcher:
            with await fetcher.fetch("http://shop.invalid/a.jpg") as body:
                data = body.read()
            for url in ("http://127.0.0.1/b.jpg", "http://localhost/c.jpg", "http://[::1]/d.jpg"):
                with pytest.raises(Rejection) as caught:
                    await fetcher.fetch(url)
                refused.append(caught.value)
        server.close()
        return data, refused

    data, refused = asyncio.run(run())
    assert data == b"by proxy"
    assert [rejection.kind for rejection in refused] == ["private_address"] * 3


def test_proxies_of_the_environment_are_not_used_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    (result,), _ = conversation({"/a": ok(b"yes")}, ["http://127.0.0.1:PORT/a"])
    assert result == b"yes"


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--proxy 'tor' is neither none nor env"):
        FetchLimits(proxy="tor")
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(SettingsError, match=f"--ca-bundle .*{name} holds no certificates"):
            FetchLimits(ca_bundle=tmp_path / name)


@contextlib.asynccontextmanager
async def secure_server(folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """A TLS server on loopback that says yes; its address and its certificate."""
    cert, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ok(b"yes"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}/a.jpg", cert
    server.close()


async def fetched(url: str, limits: FetchLimits) -> bytes | str:
    """The body, or the kind of the rejection."""
    async with Fetcher(limits, 1000) as fetcher:
        try:
            with await fetcher.fetch(url) as body:
                return body.read()
        except Rejection as rejection:
            return rejection.kind


NO_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command to make a certificate with")


@NO_OPENSSL
def test_an_own_authority_is_trusted_where_it_is_named_only(tmp_path: Path) -> None:
    async def run() -> list[bytes | str]:
        async with secure_server(tmp_path) as (url, cert):
            return [await fetched(url, replace(QUICK, total_s=20, ca_bundle=one)) for one in (cert, None)]

    assert asyncio.run(run()) == [b"yes", "connection"]


@NO_OPENSSL
def test_https_goes_through_a_tunnel_of_the_proxy_but_to_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunnels: list[str] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        tunnels.append(f"{method} {target}")
        beyond = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pipe(reader, beyond[1]), pipe(beyond[0], writer))

    async def run() -> list[bytes | str]:
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "other.example")
        async with secure_server(tmp_path) as (url, cert):
            limits = replace(QUICK, total_s=20, ca_bundle=cert, proxy="env")
            found = [await fetched(url, limits), await fetched(url, replace(limits, ca_bundle=None))]
            assert tunnels == [f"CONNECT {url.split('/')[2]}"] * 2
            monkeypatch.setenv("NO_PROXY", "other.example,localhost")
            found.append(await fetched(url, limits))
        server.close()
        return found

    for name in ("https_proxy", "no_proxy", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert asyncio.run(run()) == [b"yes", "connection", b"yes"]
    assert len(tunnels) == 2, "NO_PROXY names the host"


@pytest.fixture(params=["s3", "gs", "gcs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket in memory behind addresses of the scheme."""
    fsspec.register_implementation(request.param, MemoryFileSystem, clobber=True)
    files = MemoryFileSystem()
    for name, data in {"a b.jpg": b"bytes of a", "large.jpg": b"x" * 2000}.items():
        files.pipe(f"{request.param}://bucket/{name}", data)
    yield f"{request.param}://bucket"
    files.store.clear()


def test_objects_of_a_bucket_are_read_under_the_cap(bucket: str) -> None:
    async def run() -> list[bytes | str]:
        found: list[bytes | str] = []
        async with Fetcher(QUICK, 1000) as fetcher:
            for url in (f"{bucket}/a b.jpg", f"{bucket}/large.jpg", f"{bucket}/missing.jpg"):
                try:
                    with await fetcher.fetch(url) as file:
                        found.append(file.read())
                except Rejection as rejection:
                    found.append(rejection.kind)
        return found

    require_library(f"{bucket}/a")
    assert asyncio.run(run()) == [b"bytes of a", "too_large", "not_found"]


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("fsspec.registry", {})
    with pytest.raises(MissingExtraError, match=r"phisight\[gcs\]"):
        require_library("gs://bucket/a")
    require_library("https://host/a")
