"""Who may ask, how often, and how long they wait: keys, rates, queue, deadline."""

from __future__ import annotations

import json
import logging
import socket
import time
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.core.errors import SettingsError
from phisight.serve.serve_settings import ServeSettings, keys_of
from tests.helpers import served

KEYS = ("first-key-123", "second-key-456")


def test_keys_rates_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Several keys, each with its own rate; nothing secret is in the log."""
    with (
        served.running(keys=KEYS, rate_per_minute=12) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
        caplog.at_level(logging.INFO, "phisight.serve"),
    ):
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": KEYS[0]},
            {"authorization": "Basic x"},
        ):
            for path in ("/v1/models", "/v1/schema", "/metrics"):
                assert served.is_error(client.get(path, headers=headers), 401, "invalid_api_key")
            assert served.is_error(client.post("/v1/extract", content=b"x" * 9, headers=headers), 401)
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200
        image = served.data_url(served.image_bytes())
        for key in KEYS:
            allowed = {"authorization": f"Bearer {key}", "x-request-id": f"mine-{key[:5]}"}
            found = [client.post("/v1/extract", json={"images": [image]}, headers=allowed) for _ in range(3)]
            assert [one.status_code for one in found] == [200, 200, 429]
            assert int(found[-1].headers["retry-after"]) >= 1
            assert found[0].headers["x-request-id"] == f"mine-{key[:5]}"
    lines = [json.loads(record.message) for record in caplog.records if record.name == "phisight.serve"]
    assert {line["status"] for line in lines} >= {200, 401, 429}
    assert all(line["request_id"] and line["seconds"] >= 0 for line in lines)
    text = caplog.text
    assert not any(secret in text for secret in (*KEYS, "wrong", image[30:60]))
    assert len({line.get("client") for line in lines if line["status"] == 200 and line["path"] == "/v1/extract"}) == 2


def test_a_public_address_needs_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(SettingsError, match="PHISIGHT_API_KEY"):
            ServeSettings(host=host)
        ServeSettings(host=host, insecure=True)
        ServeSettings(host=host, keys=KEYS)
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        ServeSettings(host=host)
    with pytest.raises(SettingsError, match="shorter than 8"):
        ServeSettings(keys=keys_of("short"))
    assert keys_of(" a-long-key , another-key,") == ("a-long-key", "another-key")


def test_a_full_queue_says_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        served.running(max_queue=4, max_sequences=1) as (url, server),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        monkeypatch.setattr(server.engine, "_dispatch", lambda: None)  # nothing leaves the queue
        bodies = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        waiting = []
        for _ in range(2):
            sock = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
            data = json.dumps(bodies).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
            sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
            waiting.append(sock)
        while server.engine.load[0] < 2:
            time.sleep(0.01)
        response = client.post("/v1/chat/completions", json=bodies)
        assert served.is_error(response, 429, "queue_full")
        assert int(response.headers["retry-after"]) >= 1
        for sock in waiting:
            sock.close()
        while server.engine.load[0]:
            time.sleep(0.01)


def test_a_deadline_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with served.running(timeout_s=1) as (url, server), httpx.Client(base_url=url, timeout=60) as client:
        monkeypatch.setattr(server.engine, "_dispatch", lambda: None)
        assert served.is_error(served.chat(client), 504, "deadline")
        assert server.engine.load == (0, 0)


def test_errors_of_the_server_and_of_the_model_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500 of those who waited; the next is answered."""

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret of the inside")

    with served.running() as (url, server), httpx.Client(base_url=url, timeout=60) as client:
        for place, name, code in (
            (server.engine, "submit", "internal"),
            (server.served.model.lm_head, "forward", "model_failed"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(place, name, fails)
                response = served.chat(client)
            assert served.is_error(response, 500, code)
            assert "secret" not in response.text
            assert served.chat(client).status_code == 200
