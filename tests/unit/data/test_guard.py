"""The guard: no address of the inside is reached, whatever it is written as and whoever points to it."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from phisight.data.fetch.addresses import checked_address, redacted
from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.fetch.request import job_for
from phisight.data.fetch.special_purpose import is_public
from phisight.data.fetch.ssrf_guard import Guard
from phisight.data.images.rejection import Rejection
from tests.helpers.image_server import ImageServer
from tests.helpers.inside_addresses import BROKEN, let_through, spellings

STRICT = FetchLimits(total_s=2, backoff_s=0.01)


def rejection_of(url: str) -> Rejection:
    async def run() -> None:
        async with Fetcher(STRICT, 1000) as fetcher:
            (await fetcher.fetch(url)).close()

    with pytest.raises(Rejection) as caught:
        asyncio.run(run())
    return caught.value


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "198.18.0.1", "192.0.2.1", "240.0.0.1",
    ],
)  # fmt: skip
def test_addresses_of_the_inside(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_outside(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", *spellings("127.0.0.1")])
def test_loopback_is_refused_in_every_spelling(server: ImageServer, host: str) -> None:
    port = server.url.rsplit(":", 1)[1]
    assert rejection_of(f"http://{host}:{port}/ok/1").kind in ("private_address", "no_address")
    assert not server.requests, "nothing may have reached the server"


def test_every_address_of_a_name_counts(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, ["8.8.8.8", "127.0.0.1"])
    rejection = rejection_of(f"http://images.example:{server.url.rsplit(':', 1)[1]}/ok/1")
    assert rejection.kind == "private_address"
    assert "127.0.0.1" in rejection.reason
    assert not server.requests


def answer(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> list[str]:
    """Let every name resolve to these addresses; the names that were asked for."""
    asked: list[str] = []

    def fake(host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return asked


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, dialled = answer(monkeypatch, ["93.184.216.34"]), []

    def connect(self: Guard, address: Any) -> socket.socket:
        dialled.append(address[4])
        raise ConnectionRefusedError

    monkeypatch.setattr(Guard, "open_socket", connect)
    limits = FetchLimits(total_s=2, attempts=1)

    async def run() -> None:
        async with Fetcher(limits, 1000) as fetcher:
            (await fetcher.fetch("http://rebinding.example/a.jpg")).close()

    with pytest.raises(Rejection):
        asyncio.run(run())
    assert dialled == [("93.184.216.34", 80)]
    assert asked == ["rebinding.example"], "a second question could get a second answer"


def test_a_redirect_to_the_inside_is_refused(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hop is let through; the second must be checked like any other."""
    port = int(server.url.rsplit(":", 1)[1])
    checked = let_through(monkeypatch, "first.example")
    rejection = rejection_of(f"http://first.example:{port}/away?http://localhost:{port}/ok/1")
    assert rejection.kind == "private_address"
    assert checked == ["first.example", "localhost"]
    assert server.requests["/ok/1"] == 0


def test_a_redirect_to_a_file_is_refused(server: ImageServer) -> None:
    async def run() -> None:
        async with Fetcher(FetchLimits(total_s=2, allow_private=True), 1000) as fetcher:
            (await fetcher.fetch(f"{server.url}/away?file:///etc/passwd")).close()

    with pytest.raises(Rejection, match="only http, https, s3 and gs are fetched"):
        asyncio.run(run())


@pytest.mark.parametrize("url", [*BROKEN, "data:image/png;base64,"])
def test_other_schemes_and_broken_addresses(url: str) -> None:
    with pytest.raises(Rejection) as caught:
        job_for(url, None)
    assert caught.value.kind == "bad_url"


def test_what_is_shown_of_an_address() -> None:
    assert redacted("https://me:secret@shop.example:8443/a/b.jpg?sig=secret#x") == "https://shop.example:8443/a/b.jpg"
    assert checked_address("HTTPS://shop.example/a.jpg") == "HTTPS://shop.example/a.jpg"
