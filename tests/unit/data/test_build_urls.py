"""Builds over the network: nothing is lost, nothing is asked for twice, and a kill changes no byte."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from phisight.data.build.build_dataset import build
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import ImageLimits
from tests.helpers.image_server import ImageServer, running
from tests.helpers.images import encoded, smooth_image
from tests.helpers.url_list import OPTIONS, folder_bytes, write_list


def rejects(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_fault_mix(server: ImageServer, tmp_path: Path) -> None:
    good = ["ok", "flaky", "busy", "redirect", "gzip", "chunked", "bare"]
    bad = {
        "404": "not_found", "410": "not_found", "403": "http_status", "down": "server_error", "truncated": "incomplete",
        "reset": "connection", "slow": "timeout", "html": "html", "bomb": "too_many_pixels", "huge": "too_large",
        "gzipbomb": "too_large", "loop": "redirects",
    }  # fmt: skip
    urls = [f"{server.url}/{kind}/{at}?key=s3cret" for at, kind in enumerate([*good, *bad])]
    server_strips_query(server)
    result = build(str(write_list(tmp_path / "t.csv", urls)), tmp_path / "ds", OPTIONS)
    assert result.kept == len(good)
    assert result.read == len(urls) == result.kept + result.rejected.total()
    assert result.rejected == Counter(bad.values())
    lines = rejects(tmp_path / "ds")
    assert [line["kind"] for line in lines] == list(bad.values())
    assert all(line["row"] and line["key"] and line["reason"] for line in lines)
    assert "s3cret" not in (tmp_path / "ds" / "rejects.jsonl").read_text()


def server_strips_query(server: ImageServer) -> None:
    find = server.image
    server.image = lambda path: find(path.split("?")[0])  # type: ignore[method-assign]


def test_an_address_in_two_rows_is_fetched_once(server: ImageServer, tmp_path: Path) -> None:
    table = write_list(tmp_path / "t.csv", [f"{server.url}/ok/{n % 3}" for n in range(9)])
    assert build(str(table), tmp_path / "ds", OPTIONS).kept == 9
    assert set(server.requests.values()) == {1}
    assert len(list((tmp_path / "ds" / "images").rglob("*.jpg"))) == 3


def test_a_second_run_asks_only_for_what_may_have_healed(server: ImageServer, tmp_path: Path) -> None:
    urls = [f"{server.url}/{kind}/{n}" for n, kind in enumerate(["ok", "404", "down", "html", "ok", "truncated"])]
    table = write_list(tmp_path / "t.csv", urls)
    build(str(table), tmp_path / "ds", OPTIONS)
    first = folder_bytes(tmp_path / "ds")
    server.requests.clear()
    build(str(table), tmp_path / "ds", OPTIONS)
    assert set(server.requests) == {"/down/2", "/truncated/5"}
    assert folder_bytes(tmp_path / "ds") == first


def test_new_rows_alone_are_fetched(server: ImageServer, tmp_path: Path) -> None:
    urls = [f"{server.url}/ok/{n}" for n in range(6)]
    build(str(write_list(tmp_path / "t.csv", urls[:4])), tmp_path / "ds", OPTIONS)
    server.requests.clear()
    build(str(write_list(tmp_path / "t.csv", urls)), tmp_path / "ds", OPTIONS)
    assert set(server.requests) == {"/ok/4", "/ok/5"}


def test_images_that_no_row_needs_any_more_are_removed(server: ImageServer, tmp_path: Path) -> None:
    urls = [f"{server.url}/ok/{n}" for n in range(6)]
    build(str(write_list(tmp_path / "t.csv", urls)), tmp_path / "ds", OPTIONS)
    (tmp_path / "ds" / "images" / "stray.tmp").write_bytes(b"left by a kill")
    table = write_list(tmp_path / "t.csv", urls[:2])
    build(str(table), tmp_path / "ds", OPTIONS)
    build(str(table), tmp_path / "undisturbed", OPTIONS)
    assert folder_bytes(tmp_path / "ds") == folder_bytes(tmp_path / "undisturbed")
    assert sum(path.is_dir() for path in (tmp_path / "ds" / "images").iterdir()) == 2, "empty folders are removed too"


def test_other_limits_ask_again_for_what_they_refused(server: ImageServer, tmp_path: Path) -> None:
    table = write_list(tmp_path / "t.csv", [f"{server.url}/{kind}/1" for kind in ("ok", "404", "bomb")])
    build(str(table), tmp_path / "ds", OPTIONS)
    server.requests.clear()
    build(str(table), tmp_path / "ds", replace(OPTIONS, limits=ImageLimits(max_bytes=4_000_000)))
    assert set(server.requests) == {"/bomb/1"}


def command(table: Path, out: Path, processes: int) -> list[str]:
    return [
        sys.executable, "-m", "phisight", "data", "build", str(table), "--out", str(out), "--allow-private",
        "--field", "title:text", "--time-limit", "20", "--processes", str(processes),
    ]  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_kill_loses_nothing_and_changes_no_byte(tmp_path: Path, processes: int) -> None:
    """kill -9 in mid-flight; then the build is run to its end and compared with an undisturbed one."""
    rows = 120
    with running(ImageServer([encoded(smooth_image(seed, (48, 40))) for seed in range(rows)], latency_s=0.3)) as server:
        urls = [f"{server.url}/{'404' if n % 20 == 7 else 'ok'}/{n}" for n in range(rows)]
        table, out = write_list(tmp_path / "t.csv", urls), tmp_path / "ds"
        process = subprocess.Popen(command(table, out, processes), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for_images(out, 30, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.5)  # workers notice that their parent is gone
        finished = {path.name for path in (out / "images").rglob("*.jpg")}
        assert 30 <= len(finished) < rows
        server.requests.clear()
        assert subprocess.run(command(table, out, processes), capture_output=True).returncode == 0
        asked = server.requests.total()
        server.latency_s = 0
        assert subprocess.run(command(table, tmp_path / "undisturbed", 1), capture_output=True).returncode == 0
    assert asked <= rows - len(finished) + 4, "finished images were asked for again"
    assert len(DatasetFolder.open(out)) == rows - len([n for n in range(rows) if n % 20 == 7])
    assert folder_bytes(out) == folder_bytes(tmp_path / "undisturbed")


def wait_for_images(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while len(list((out / "images").rglob("*.jpg"))) < count:
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
