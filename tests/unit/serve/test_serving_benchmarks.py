"""The benchmarks of serving: every missed aim ends them with 1; memory is that of the server and its children."""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.helpers import served
from tests.helpers.command_line import ROOT

BENCHMARKS = ROOT / "benchmarks"
GOOD: dict[str, Any] = {
    "answers": 900,
    "lost": 0,
    "wrong": 0,
    "one_client_per_s": 10.0,
    "all_clients_per_s": 60.0,
    "extract_many_per_s": 80.0,
    "median_s": 0.5,
    "p95_s": 0.8,
    "memory_minutes": [2.0, 10.0],
    "memory_mb": [1000.0, 1049.0],
    "quiet_s": 0.1,
    "beside_s": 0.19,
}


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_a_connection_outlives_those_of_clients_and_balancers() -> None:
    """A server that closes first loses the request that is on its way: aiohttp keeps 15 s, nginx 60 s, some 75 s."""
    from phisight.serve.listen import config_of
    from phisight.serve.serve_settings import ServeSettings
    from phisight.workflows.serve import make_server

    server = make_server(served.served(), ServeSettings(workers=0))
    assert config_of(server).timeout_keep_alive > 75


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, None),
        ({"lost": 1}, "lost of"),
        ({"wrong": 1}, "wrong"),
        ({"one_client_per_s": 21.0}, "32 clients / one"),
        ({"extract_many_per_s": 90.0}, "32 clients / extract_many"),
        ({"p95_s": 2.6}, "p95 / median"),
        ({"memory_mb": [1000.0, 1051.0]}, "memory at minute 10 / at minute 2"),
        ({"memory_mb": [None, None]}, "memory at minute 10 / at minute 2"),
        ({"beside_s": 0.21}, "median beside"),
    ],
)
def test_every_missed_aim_is_said_and_ends_with_1(
    changes: dict[str, Any], missed: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    import serving_aims

    code = serving_aims.report(serving_aims.load_aims(GOOD | changes, 32))
    found = [line for line in capsys.readouterr().out.splitlines() if line.endswith("MISSED")]
    assert code == (missed is not None)
    assert len(found) == code
    assert missed is None or found[0].startswith(missed)


def test_lost_and_wrong_are_counted_for_each_client() -> None:
    import serve

    alone = [{"fields": {"a": 1}, "written": "a: 1", "pieces": [3, 1], "margins": [5.0, 4.0]}]
    near = [{**alone[0], "margins": [5.0, 1e-4]}]
    clients = [serve.Client.__new__(serve.Client) for _ in range(3)]
    for number, client in enumerate(clients):
        client.key, client.lost = f"key-{number}", Counter()
        client.answers = [(0, {"fields": {"a": 1}, "text": "a: 1"})]
    clients[1].lost["ServerDisconnectedError"] += 2
    clients[2].answers.append((0, {"fields": {"a": 2}, "text": "a: 2"}))
    found = serve.by_client(clients, alone)
    assert (found["answers"], found["lost"], found["wrong"]) == (4, 2, 1)
    assert set(found["troubles"]) == {"key-1", "key-2"}
    assert found["troubles"]["key-1"]["lost: ServerDisconnectedError"] == 2
    assert serve.by_client(clients, near)["wrong"] == 0, "a near tie of two tokens is no wrong answer"


@pytest.mark.parametrize(
    ("changes", "requests", "images", "missed"),
    [
        ({}, 5000, 2000, None),
        ({}, 4999, 2000, "requests from the document"),
        ({}, 5000, 1999, "mutated images"),
        ({"broken": 1}, 5000, 2000, "answers of 500"),
        ({"findings": True}, 5000, 2000, "findings"),
        ({"unanswered": 1}, 5000, 2000, "images without"),
        ({"left": 1}, 5000, 2000, "still in work"),
        ({"growth": 1.06}, 5000, 2000, "memory"),
        ({"afterwards": 503}, 5000, 2000, "status"),
    ],
)
def test_every_missed_aim_of_foreign_requests(
    changes: dict[str, Any], requests: int, images: int, missed: str | None
) -> None:
    import serve_fuzz

    seen = {"broken": 0, "findings": False, "unanswered": 0, "left": 0, "growth": 1.01, "afterwards": 200, **changes}
    asked = argparse.Namespace(requests=5000, images=2000)
    aims = serve_fuzz.fuzz_aims(asked, requests, images, seen)
    assert [aim.name[: len(missed or "")] for aim in aims if not aim.reached] == ([missed] if missed else [])


def test_mutations_change_files_of_every_kind() -> None:
    """Each kind is read as it is; most mutated files are no longer what they were, and no two are the same."""
    import serve_fuzz

    wholes = serve_fuzz.whole_images(served.decoded())
    for data in wholes.values():
        Image.open(io.BytesIO(data)).load()
    draw = random.Random(0)
    files = [serve_fuzz.mutated(wholes, draw) for _ in range(300)]
    assert len(set(files)) > 250
    assert len(set(files) & set(wholes.values())) < 15
    for mutation in serve_fuzz.MUTATIONS:
        changed = 0
        for data in wholes.values():
            other = bytearray(data)
            mutation(other, draw, wholes["png"])
            changed += bytes(other) != data
        assert changed > len(wholes) / 2, mutation.__name__


def test_memory_is_that_of_a_process_and_its_children() -> None:
    """A grandchild that holds 60 MB."""
    from serving_process import family, resident_mb

    hold = "import sys; held = bytearray(60_000_000); print('held', flush=True); sys.stdin.read()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    before = resident_mb(os.getpid())
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert resident_mb(process.pid) > 60
        assert resident_mb(os.getpid()) > before + 55
        assert len(family(process.pid)) == 2
        process.communicate()


@pytest.mark.process
@pytest.mark.slow
def test_the_load_benchmark_runs(tmp_path: Path) -> None:
    """On untrained weights: nothing is lost or wrong, and the exit code says whether an aim was missed."""
    model = served.exported(tmp_path / "products")
    options = ["--clients", "3", "--seconds", "2", "--turns", "1", "--minutes", "0.05", "--images", "4"]
    command = [sys.executable, str(BENCHMARKS / "serve.py"), "--model", str(model), *options]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "figures.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures["answers"] > 3, done.stderr
    assert (figures["lost"], figures["wrong"], figures["troubles"]) == (0, 0, {})
    assert len(figures["memory_mb"]) == 2
    assert done.returncode == ("MISSED" in done.stdout), done.stdout
