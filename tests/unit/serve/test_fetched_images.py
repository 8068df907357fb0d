"""Addresses of images: off by default; with ``allow_fetch`` nothing private is dialed, whatever leads there."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.helpers import served
from tests.helpers.image_server import ImageServer
from tests.helpers.image_server import running as images_running
from tests.helpers.inside_addresses import BROKEN, inside_hosts, let_through, not_public, watch_dialing


@pytest.fixture(scope="module")
def images() -> Iterator[ImageServer]:
    with images_running(ImageServer([served.image_bytes(kind="JPEG")], latency_s=0)) as server:
        yield server


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served.running(allow_fetch=True) as (url, _), httpx.Client(base_url=url, timeout=60) as made:
        yield made


ENDPOINTS = ("/v1/extract", "/v1/chat/completions")


def asked(client: httpx.Client, url: str, path: str = "/v1/extract") -> httpx.Response:
    """The answer of an endpoint about an image at an address."""
    if path == "/v1/extract":
        return client.post(path, json={"images": [url]})
    return client.post(path, json={"model": "tiny", "messages": served.asked(url)})


def test_addresses_are_fetched_where_that_is_allowed(images: ImageServer) -> None:
    """Behind the loopback for the test's sake; the same bytes as a data URL give the same answer."""
    with (
        served.running(allow_fetch=True, allow_private=True) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        fetched = asked(client, f"{images.url}/ok/0.jpg")
        given = asked(client, served.data_url(images.images[0], "image/jpeg"))
        assert fetched.status_code == 200, fetched.text
        assert fetched.json()["fields"] == given.json()["fields"]
        for path in ("404/1", "html/1", "truncated/1", "loop/1"):
            failed = asked(client, f"{images.url}/{path}")
            assert failed.status_code == 400, path
            assert images.url not in failed.text


@pytest.mark.slow
@pytest.mark.parametrize("path", ENDPOINTS)
def test_nothing_private_is_dialed(
    client: httpx.Client, images: ImageServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole list of the guard, in every spelling, with ports and users; sockets are watched."""
    before, port = images.requests.total(), images.url.rpartition(":")[2]
    dialed = watch_dialing(monkeypatch)
    hosts = list(inside_hosts(random.Random(path)))
    assert len(hosts) > 60
    for host in hosts:
        for url in (f"http://{host}:{port}/ok/1", f"https://user:pass@{host}/ok/1"):
            response = asked(client, url, path)
            assert response.status_code == 400, url
            error = response.json()["error"]
            assert error["code"] in ("image_not_fetched", "invalid_image_url"), url
            assert "pass" not in error["message"]
    assert images.requests.total() == before, "something reached the server of the inside"
    assert not_public(dialed, {client.base_url.port or 0}) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_redirect_to_the_inside_is_not_followed(
    images: ImageServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a host of the outside to each of the inside, to files and to object stores, also by way of another."""
    port = images.url.rpartition(":")[2]
    checked = let_through(monkeypatch, "first.example")  # before the server makes its client
    first = f"http://first.example:{port}"
    targets = [f"http://{host}:{port}/ok/2" for host in inside_hosts(random.Random(path)) if host.isascii()]
    targets += [f"https://{host}/ok/2" for host in ("127.0.0.1", "[::1]", "localhost")]
    targets += [url for url in BROKEN if " " not in url and "nohost" not in url]
    targets += ["s3://bucket/key", "gs://bucket/key", "data:image/png,x"]
    with served.running(allow_fetch=True) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        assert asked(client, f"{first}/ok/1", path).status_code == 200, "the first host is reached"
        asked_for = images.requests["/ok/2"]
        dialed = watch_dialing(monkeypatch)
        for target in targets:
            for address in (f"{first}/away?{target}", f"{first}/away?{first}/away?{target}"):
                response = asked(client, address, path)
                assert served.is_error(response, 400, "image_not_fetched"), target
        own = client.base_url.port or 0
    assert images.requests["/ok/2"] == asked_for, "a redirect to the inside was followed"
    assert not_public(dialed, {own, int(port)}) == []
    assert {"first.example", "localhost"} <= set(checked)


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("target", ["127.0.0.1", "[::1]", "169.254.169.254", "localhost"])
def test_a_name_that_leads_inside_is_refused(
    client: httpx.Client, target: str, path: str, monkeypatch: pytest.MonkeyPatch
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
        response = asked(client, f"http://{host}/a.jpg", path)
        assert response.status_code == 400
        assert address not in response.text


OTHERS = [
    "s3://bucket/key", "gs://bucket/key", "//example.com/a.png", "", " ", "\n", "http://", "data", "data:", "data:,",
    "data:;base64,", "DATA:image/png;base64,AA==", "http://example.com\r\nHost: x/", "blob:http://x/1", "http://\udcff/",
]  # fmt: skip


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("url", [*BROKEN, *OTHERS])
def test_other_schemes_and_broken_addresses(client: httpx.Client, url: str, path: str) -> None:
    body = {"images": [url]} if path == "/v1/extract" else {"model": "tiny", "messages": served.asked(url)}
    response = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code == 400, url
    assert response.json()["error"]["message"]
