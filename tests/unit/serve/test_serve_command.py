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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.export.task_file import TaskFile
from phisight.workflows.extract import load_extractor
from tests.helpers import served
from tests.helpers.command_line import ROOT

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as an export."""
    folder = tmp_path_factory.mktemp("export") / "products"
    model, processor = served.tiny()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    TaskFile(task=served.TASK, max_new_tokens=served.MOST_TOKENS, constrained=True, categories=served.KINDS).write(
        folder
    )
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "phisight", "serve", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **more}


@contextmanager
def process(*arguments: object, **more: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its address, and the lines of its log as they come."""
    started = subprocess.Popen(
        command(*arguments, "--port", 0),
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
    requests = [json.loads(line) for line in log if line.startswith("{")]
    last = next(line for line in requests if line["path"] == "/v1/chat/completions")
    assert last["status"] == 200
    assert last["completion_tokens"] > 2
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_grace_time_ends(folder: Path) -> None:
    with process(folder, "--grace", 1, "--workers", 1, "--max-tokens", 2000) as (server, url, _):
        host, port = url.removeprefix("http://").split(":")
        body = {"model": "products", "messages": [{"role": "user", "content": "Go."}], "max_tokens": 2000, "n": 8}
        data = json.dumps({**body, "temperature": 2}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
            while httpx.get(f"{url}/ready").json()["in_work"] == 0:
                pass
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0


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
