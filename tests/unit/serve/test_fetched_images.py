"""Addresses of images: off by default; with ``allow_fetch`` nothing private is dialed, whatever leads there."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.data.fetch.special_purpose import is_public
from tests.helpers import served
from tests.helpers.image_server import ImageServer
from tests.helpers.image_server import running as images_running


@pytest.fixture(scope="module")
def images() -> Iterator[ImageServer]:
    with images_running(ImageServer([served.image_bytes(kind="JPEG")], latency_s=0)) as server:
        yield server


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served.running(allow_fetch=True) as (url, _), httpx.Client(base_url=url, timeout=60) as made:
        yield made


def extracted(client: httpx.Client, url: str) -> httpx.Response:
    return client.post("/v1/extract", json={"images": [url]})


def test_addresses_are_fetched_where_that_is_allowed(images: ImageServer) -> None:
    """Behind the loopback for the test's sake; the same bytes as a data URL give the same answer."""
    with (
        served.running(allow_fetch=True, allow_private=True) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        fetched = extracted(client, f"{images.url}/ok/0.jpg")
        given = extracted(client, served.data_url(images.images[0], "image/jpeg"))
        assert fetched.status_code == 200, fetched.text
        assert fetched.json()["fields"] == given.json()["fields"]
        for path in ("404/1", "html/1", "truncated/1", "loop/1"):
            failed = extracted(client, f"{images.url}/{path}")
            assert failed.status_code == 400, path
            assert images.url not in failed.text


def spellings(draw: random.Random) -> list[str]:
    """Hosts that are, or lead to, an address that is not public."""
    v4 = [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "198.18.0.1", "192.0.2.1", "240.0.0.1",
    ]  # fmt: skip
    v6 = ["::1", "::", "fe80::1", "fc00::1", "ff02::1", "64:ff9b::7f00:1", "2002:7f00:1::"]
    for address in v4:
        v6 += [f"::ffff:{address}", f"::{address}"]
    number = int(ipaddress.ip_address(draw.choice(v4)))
    octets = [number >> shift & 255 for shift in (24, 16, 8, 0)]
    other = [str(number), hex(number), oct(number).replace("0o", "0"), ".".join(map(hex, octets)), "127.1", "127.0.1"]
    other += [".".join(f"0{octet:o}" for octet in octets), f"{octets[0]}.{number & 0xFFFFFF}"]
    return [
        *v4,
        *(f"[{one}]" for one in v6),
        *other,
        "localhost",
        "LOCALHOST.",
        "127.0.0.1.",
        "\uff11\uff12\uff17.0.0.1",
    ]


def test_nothing_private_is_dialed(client: httpx.Client, images: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole list of the guard, in every spelling, with ports, users and redirects; sockets are watched."""
    dialed: list[Any] = []
    connect = socket.socket.connect
    before = images.requests.total()

    def watched(self: socket.socket, address: Any) -> None:
        dialed.append(address)
        connect(self, address)

    port = images.url.rpartition(":")[2]
    monkeypatch.setattr(socket.socket, "connect", watched)
    for host in spellings(random.Random(0)):
        for url in (f"http://{host}:{port}/ok/1", f"https://user:pass@{host}/ok/1"):
            response = extracted(client, url)
            assert response.status_code == 400, url
            error = response.json()["error"]
            assert error["code"] in ("image_not_fetched", "invalid_image_url"), url
            assert "pass" not in error["message"]
    assert images.requests.total() == before, "something reached the server of the inside"
    outside = [address for address in dialed if address[1] != client.base_url.port]
    assert not [address for address in outside if not is_public(ipaddress.ip_address(address[0]))]


@pytest.mark.parametrize("target", ["127.0.0.1", "[::1]", "169.254.169.254", "localhost"])
def test_a_name_that_leads_inside_is_refused(
    client: httpx.Client, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that resolve to the inside, and one of whose addresses does; the client learns no address."""
    original = socket.getaddrinfo
    address = {"localhost": "127.0.0.1"}.get(target, target.strip("[]"))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def fake(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host in ("cdn.shop.example", "mixed.shop.example"):
            inner = (family, socket.SOCK_STREAM, 6, "", (address, port))
            outer = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))
            return [inner] if host.startswith("cdn") else [outer, inner]
        return original(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    for host in ("cdn.shop.example", "mixed.shop.example"):
        response = extracted(client, f"http://{host}/a.jpg")
        assert response.status_code == 400
        assert address not in response.text


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/a.jpg", "gopher://example.com", "javascript:alert(1)", "s3://bucket/key",
        "gs://bucket/key", "//example.com/a.png", "http:///nohost", "http://[::1", "http://a b/c", "http://host:99999/x",
        "dict://x:1/", "", " ", "\n", "http://", "data", "data:", "data:,", "data:;base64,",
        "DATA:image/png;base64,AA==", "http://example.com\r\nHost: x/", "blob:http://x/1", "http://\udcff/",
    ],
)  # fmt: skip
def test_other_schemes_and_broken_addresses(client: httpx.Client, url: str) -> None:
    body = b'{"images": ["%s"]}' % url.encode("unicode_escape").replace(b'"', b'\\"').replace(b"\\x", b"\\u00")
    response = client.post("/v1/extract", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, url
    assert response.json()["error"]["message"]
