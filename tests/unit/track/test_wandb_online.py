"""The real client, online, against a server on loopback; each training process is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phisight.track import read_metrics
from tests.helpers.wandb_server import WandbServer, wandb_server

pytestmark = pytest.mark.process

pytest.importorskip("wandb", reason="the wandb extra is not installed")

ROOT = Path(__file__).parents[3]
PROCESS = """
import io, logging, os, sys, time
from pathlib import Path
from PIL import Image
from phisight.track import Example, Pairs, open_tracker


def main():
    logging.basicConfig(level=logging.WARNING)
    folder, first, ending = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    options = {"project": "shop", "entity": "team", "mode": "online", "init_timeout": 20.0, "finish_timeout": 2.0}
    tracker = open_tracker(["wandb"], {"wandb": options})
    tracker.start(folder, {"seed": 7})
    for step in (first, first + 1):
        tracker.log(step, {"train/loss": 1 / step, "eval/category_accuracy": step / 10})
    print("LOGGED", flush=True)
    if ending == "killed":
        time.sleep(60)
    if ending == "down":
        input()
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    tracker.log_examples(first + 1, [Example("A-1", file.getvalue(), "a truth", "an answer")])
    tracker.log_pairs(first + 1, Pairs("category", "category", ["HATS"], ["BAGS"]))
    began = time.monotonic()
    tracker.finish({"category_accuracy": 0.5}, {"dataset": folder / "data", "best": folder / "best"})
    print("ACTIVE", tracker.active, round(time.monotonic() - began), flush=True)

main()
"""


def start(server: WandbServer, folder: Path, first: int, ending: str) -> subprocess.Popen[str]:
    for name in ("data", "best"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "file.txt").write_text(name)
    script = folder.parent / "process.py"
    script.write_text(PROCESS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "PYTHONPATH": str(ROOT / "src")}
    environment |= {"WANDB_X_GRAPHQL_RETRY_MAX": "1", "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1"}
    return subprocess.Popen(
        [sys.executable, script, folder, str(first), ending],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def curve(server: WandbServer, name: str) -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in server.history() if name in line]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_as_the_same_run(tmp_path: Path) -> None:
    """Figures equal metrics.jsonl; images, tables, artifacts with aliases and lineage arrive."""
    run = tmp_path / "red-run"
    with wandb_server() as server:
        first = start(server, run, 1, "killed")
        assert first.stdout is not None
        assert first.stdout.readline().strip() == "LOGGED"
        deadline = time.monotonic() + 40
        while len(curve(server, "train/loss")) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        first.kill()
        first.communicate()
        out, log = start(server, run, 3, "ends").communicate(timeout=90)
        assert "ACTIVE ['wandb']" in out, log
        assert server.unknown == []
        (run_id,) = server.runs
        assert run_id == json.loads((run / "wandb.json").read_text())["id"]
        assert {"project": "shop", "entity": "team", "displayName": "red-run"}.items() <= server.runs[run_id].items()
        curves = read_metrics(run)
        assert [step for step, _ in curves["train/loss"]] == [1, 2, 3, 4]
        for name, points in curves.items():
            assert curve(server, name) == points
        events = [json.loads(line) for line in server.stream["wandb-events.jsonl"]]
        assert any("system.memory_percent" in line for line in events)
        assert any(name.startswith("media/images/images") for name in server.files)
        (table,) = (value for name, value in server.files.items() if name.startswith("media/table/examples"))
        assert json.loads(table)["data"][0][2:] == ["a truth", "an answer", False]
        by_kind = {one.kind: one for one in server.artifacts.values()}
        assert by_kind["dataset"].used
        assert by_kind["dataset"].name == "dataset-data"
        assert sorted(by_kind["model"].aliases) == ["best", "latest"]
        assert by_kind["model"].files == {"file.txt": b"best"}
        assert all(one.committed for one in server.artifacts.values())


def test_a_server_that_goes_away_does_not_stop_training(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with wandb_server() as server:
        process = start(server, run, 1, "down")
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "LOGGED"
        server.down = True
        out, log = process.communicate("\n", timeout=90)
    assert process.returncode == 0, log
    assert "ACTIVE []" in out
    assert int(out.split()[-1]) < 60
    assert "tracker wandb failed" in log
    assert "0" * 40 not in log
    assert [step for step, _ in read_metrics(run)["train/loss"]] == [1, 2]
    assert list(run.glob("wandb/run-*/run-*.wandb")), "what was logged can be sent later"
