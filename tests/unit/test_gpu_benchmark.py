"""``make bench-gpu`` at reduced size on a CPU: what first runs on a rented card does not fail on a typo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("matrix", "lora", "top", "full", "generation", "images", "equality")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every part but the one that needs minutes of a compiler."""
    out = tmp_path_factory.mktemp("gpu")
    command = [
        sys.executable,
        "-m",
        "gpu",
        "--reduced",
        "--parts",
        ",".join(PARTS),
        "--budget",
        "3000",
        "--out",
        str(out),
    ]
    folders = [str(ROOT / "src"), str(ROOT / "benchmarks")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    outcome = subprocess.run(
        command, env=environment, cwd=out, capture_output=True, text=True, check=False, timeout=1500
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    (page,), (figures,) = out.glob("*.md"), out.glob("*.json")
    values: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    return {**values, "page": page.read_text(encoding="utf-8")}


@pytest.mark.slow
def test_every_part_runs_and_is_told(results: dict[str, Any]) -> None:
    assert tuple(results["parts"]) == PARTS
    for part, figures in results["parts"].items():
        for name, one in figures.items():
            assert "error" not in one, f"{part} / {name}: {one['error']}"
            assert "skipped" not in one, f"{part} / {name}: {one['skipped']}"
            assert name in results["page"]


@pytest.mark.slow
def test_numbers_are_the_recorded_ones(results: dict[str, Any]) -> None:
    equality = results["parts"]["equality"]
    assert len(equality) == 5
    assert all(one["within_bounds"] for name, one in equality.items() if name != "resume")
    assert equality["resume"]["bit_equal"]


@pytest.mark.slow
def test_answers_over_a_static_cache_are_the_librarys(results: dict[str, Any]) -> None:
    shares = [
        one["tokens_as_the_librarys"] for one in results["parts"]["generation"].values() if "eager_step_ms" in one
    ]
    assert len(shares) == 4
    assert set(shares) == {1.0}


def test_time_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu.budget import Budget
    from gpu.device import Device
    from gpu.record import Record

    budget = Budget(100.0, {"a": 3.0, "b": 1.0})
    assert budget.begin("a") == pytest.approx(75, abs=1)
    assert budget.lacks(10) is None
    assert budget.begin("b") == pytest.approx(100, abs=1)  # what a has not used
    record = Record(tmp_path, {"device": "x", "month": "y"}, Device(), budget)
    assert record.attempt("b", "long", 200.0, dict) is None

    def fails() -> dict[str, Any]:
        raise ValueError("a typo")

    assert record.attempt("b", "wrong", 1.0, fails) is None
    assert "needs about 200 s" in record.parts["b"]["long"]["skipped"]
    assert record.parts["b"]["wrong"]["error"] == "ValueError: a typo"
    assert "a typo" in (tmp_path / "errors.txt").read_text()
