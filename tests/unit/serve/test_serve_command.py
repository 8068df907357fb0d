"""``phisight serve`` as a process: it says where it listens, answers, and ends in peace."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.workflows.extract import load_extractor
from tests.helpers import served
from tests.helpers.command_line import ROOT
from tests.helpers.held_steps import command_until

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as an export."""
    return served.exported(tmp_path_factory.mktemp("export") / "products")


PHISIGHT = (sys.executable, "-m", "phisight")


def command(*arguments: object) -> list[str]:
    return [*PHISIGHT, "serve", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **more}


@contextmanager
def process(
    *arguments: object, program: Sequence[str] = PHISIGHT, **more: str
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its address, and the lines of its log as they come."""
    started = subprocess.Popen(
        [*program, "serve", *map(str, arguments), "--port", "0"],
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(started.stderr or ()), daemon=True)
    reader.start()
    try:
        found = re.search(r"http://\S+", started.stdout.readline())
        assert found, log
        yield started, found[0], log
    finally:
        if started.poll() is None:
            started.kill()
        started.wait(30)
        reader.join(10)
        started.stdout.close()
        started.stderr.close()


def test_sigterm_lets_a_running_answer_end(folder: Path) -> None:
    with process(folder, "--batch-size", 2, "--workers", 1) as (server, url, log):
        body: dict[str, Any] = {
            "model": "products",
            "messages": [{"role": "user", "content": "Go."}],
            "max_tokens": 400,
            "n": 2,
            "temperature": 2,
            "stream": True,
        }
        with httpx.Client(base_url=url, timeout=120) as client:
            assert client.get("/ready").json()["status"] == "ready"
            assert client.get("/v1/models").json()["data"][0]["id"] == "products"
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                server.send_signal(signal.SIGTERM)
                assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.wait(60) == 0
    last = next(line for line in requests_of(log) if line["path"] == "/v1/chat/completions")
    assert last["status"] == 200
    assert last["completion_tokens"] > 2
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_grace_time_ends(folder: Path, tmp_path: Path) -> None:
    """Of an answer without end; its client gets no whole one."""
    never = command_until(tmp_path / "never")
    with (
        process(folder, "--grace", 1, "--workers", 1, program=never) as (server, url, log),
        asked_for(url, {**QUESTION, "n": 8}) as sock,
    ):
        until(lambda: httpx.get(f"{url}/ready").json()["in_work"] == 8)
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0
        assert b"chat.completion" not in read_all(sock)
    (line,) = [line for line in requests_of(log) if line["path"] == "/v1/chat/completions"]
    assert line["status"] != 200


def test_sigterm_lets_what_waits_be_answered(folder: Path, tmp_path: Path) -> None:
    """Requests in the queue are taken, too; new ones are not, and no answer comes before the signal."""
    flag = tmp_path / "go"
    options = ["--batch-size", 1, "--workers", 1, "--grace", 300]
    with process(folder, *options, program=command_until(flag)) as (server, url, log):
        socks = [asked_for(url, QUESTION) for _ in range(9)]
        until(lambda: httpx.get(f"{url}/ready").json()["waiting"] >= 4)
        server.send_signal(signal.SIGTERM)
        until(lambda: not is_listening(url))
        flag.touch()
        answers = [read_all(sock) for sock in socks]
        assert server.wait(120) == 0
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["finish_reason"] in ("stop", "length")
    assert [line["status"] for line in requests_of(log) if line["path"] == "/v1/chat/completions"] == [200] * 9


QUESTION: dict[str, Any] = {
    "model": "products",
    "messages": [{"role": "user", "content": "Go."}],
    "max_tokens": 5,
    "temperature": 2,
}


def asked_for(url: str, body: dict[str, Any]) -> socket.socket:
    """A connection on which a conversation has been sent."""
    data = json.dumps(body).encode()
    sock = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=300)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
    return sock


def read_all(sock: socket.socket) -> bytes:
    """What comes until the connection ends."""
    found = b""
    with sock:
        try:
            while piece := sock.recv(65536):
                found += piece
        except ConnectionError:
            pass
    return found


def is_listening(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10).close()
    except ConnectionError:
        return False
    return True


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def requests_of(log: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log if line.startswith("{")]


def test_typed_answers_and_keys(folder: Path) -> None:
    with process(folder, "--workers", 1, PHISIGHT_API_KEY="a-secret-key") as (server, url, log):
        files = {"image": served.image_bytes()}
        assert httpx.post(f"{url}/v1/extract", files=files).status_code == 401
        headers = {"authorization": "Bearer a-secret-key"}
        found = httpx.post(f"{url}/v1/extract", files=files, headers=headers, timeout=120).json()
        assert found["fields"] == load_extractor(folder).extract(served.image_bytes())
        page = httpx.get(url).text
        assert page.count("data:image/jpeg") > 2
        assert 'type="password"' in page
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert not any("a-secret-key" in line for line in log)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "PHISIGHT_API_KEY"),
        (["--host", "192.0.2.7", "--insecure"], "cannot listen on 192.0.2.7"),
    ],
)
def test_what_cannot_be_served_is_one_line(folder: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        command(folder, *arguments), env=environment(), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert message in done.stderr


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(folder, "--port", port), env=environment(), capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
