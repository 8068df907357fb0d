"""A client that hangs up: its rows, its place in the queue and its map are free before the next step."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.serve.app import Server
from tests.helpers import served
from tests.helpers.held_steps import HeldSteps, held_steps

LONG = {
    "model": "tiny", "messages": [{"role": "user", "content": "Go."}], "max_tokens": 64, "n": 4, "temperature": 2,
    "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[str, Server]]:
    with served.running(timeout_s=300) as found:
        yield found


@pytest.fixture
def steps() -> Iterator[HeldSteps]:
    with held_steps() as found:
        yield found


def asked(url: str, body: dict[str, Any], path: str = "chat/completions") -> socket.socket:
    """A connection on which a request has been sent."""
    data = json.dumps(body).encode()
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    sock = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
    sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
    return sock


def until(reached: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_rows(listening: tuple[str, Server], steps: HeldSteps, stream: bool) -> None:
    """While a step is held the client leaves; that step is the last one with its rows."""
    url, server = listening
    with asked(url, {**LONG, "stream": stream}) as sock:
        until(lambda: steps.rows, "no step was begun")
        rows = steps.rows[0]
        assert len(rows) == 4
        if stream:
            while not select.select([sock], [], [], 0.2)[0]:
                steps.permit()
            assert b"200 OK" in sock.recv(200)
        assert steps.rows[-1] == rows, "an answer ended by itself"
    until(lambda: server.engine.load == (0, 0), "the rows of a client that left are still in work")
    held = len(steps.rows)
    steps.release()
    with httpx.Client(base_url=url, timeout=60) as client:
        assert served.chat(client, max_tokens=12).status_code == 200
    after = steps.rows[held + 1 :]  # one may have been about to begin
    assert after, "another answer took no step"
    assert not any(rows & one for one in after), "steps went on for a client that left"


def test_a_client_that_hangs_up_while_it_waits_never_gets_a_row(
    listening: tuple[str, Server], steps: HeldSteps
) -> None:
    url, server = listening
    with asked(url, {**LONG, "max_tokens": 2}) as first:
        until(lambda: steps.rows, "no step was begun")
        rows = steps.rows[0]
        many = [asked(url, LONG) for _ in range(6)]
        until(lambda: server.engine.load[0] > 2, "nothing waits")
        for sock in many:
            sock.close()
        until(lambda: server.engine.load == (0, 4), "who left still waits, or is in work")
        steps.release()
        assert b"200 OK" in first.recv(200)
    until(lambda: server.engine.load == (0, 0), "an answer is still in work")
    assert set().union(*steps.rows) == rows, "a client that left got rows"


def test_a_map_ends_when_its_client_hangs_up(listening: tuple[str, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are computed one piece at a time; after the client left no other piece is begun."""
    from phisight.serve import explain

    url, _ = listening
    pieces: list[int] = []
    allowed = threading.Semaphore(2)

    def endless(*_: Any) -> Iterator[list[dict[str, float]]]:
        while True:
            allowed.acquire()
            pieces.append(len(pieces))
            yield [{"row": 0, "column": 0, "drop": 0.0}]

    monkeypatch.setattr(explain, "cells", endless)
    body = {"images": [served.data_url(served.image_bytes())]}
    with asked(url, body, "occlusion") as sock:
        seen = b""
        while seen.count(b"occlusion.cells") < 2:
            seen += sock.recv(65536)
    with httpx.Client(base_url=url, timeout=60) as client:
        # The third piece is begun already, and holds the model's thread.
        noted = client.get("/metrics").text
        until(lambda: _ended(client), f"the server has not seen that the client left: {noted}")
        allowed.release()
        assert served.chat(client).status_code == 200, "the model's thread is free for others"
        count = len(pieces)
        for _ in range(20):
            allowed.release()
        assert served.chat(client).status_code == 200
    assert count <= 3
    assert len(pieces) == count, "a map went on for a client that left"


def _ended(client: httpx.Client) -> bool:
    """Whether the request for the map is counted as answered."""
    return 'phisight_answers_total{path="/v1/occlusion"' in client.get("/metrics").text
