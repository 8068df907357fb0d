"""A run from a layer upwards stores the hidden states below it once, says so, and saves a whole model."""

import json
from pathlib import Path
from typing import Any

import pytest

from phisight.core.recipe import recipe_from
from phisight.core.run_folder import BEST, METRICS
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.load import load_run
from phisight.workflows.train import Prepared, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    make(16, folder, seed=0, settings=preset("demo"))
    return folder


def run(data: Path, out: Path, **settings: Any) -> tuple[Prepared, list[dict[str, Any]]]:
    recipe = recipe_from(
        {
            "out": str(out),
            "data": {"path": str(data), **settings},
            "train": {"method": "lora", "from_layer": 2, "steps": 3, "batch_size": 4, "log_every": 1, "warmup": 0.0},
        }
    )
    seen: list[Prepared] = []
    train(recipe, announce=seen.append)
    lines = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return seen[0], lines


def losses(lines: list[dict[str, Any]], name: str = "train/loss") -> list[float]:
    return [line[name] for line in lines if name in line]


def test_states_are_stored_once_and_change_no_loss(data: Path, tmp_path: Path) -> None:
    first, stored = run(data, tmp_path / "one")
    (report,) = first.caches
    assert (report.kind, report.used, report.offloaded) == ("hidden states", True, True)
    assert report.computed > 0
    assert report.folder is not None
    assert report.folder.parent == tmp_path / "features" / "trunk"
    second, again = run(data, tmp_path / "two")
    assert [one.computed for one in second.caches] == [0]
    without, computed = run(data, tmp_path / "three", trunk_cache_gb=0)
    assert [(one.kind, one.used) for one in without.caches] == [("tower features", True)]
    assert losses(stored) == losses(again)
    assert len(losses(stored)) == 3
    assert losses(stored) == pytest.approx(losses(computed), abs=1e-4)
    assert losses(stored, "eval/loss") == pytest.approx(losses(computed, "eval/loss"), abs=1e-4)
    assert (tmp_path / "one" / BEST / "model.safetensors").is_file()
    model, _, _ = load_run(tmp_path / "one")
    assert len(model.model.layers) == 4


def test_what_does_not_fit_is_told_and_computed(data: Path, tmp_path: Path) -> None:
    prepared, lines = run(data, tmp_path / "small", trunk_cache_gb=1e-6)
    assert [(one.kind, one.used) for one in prepared.caches] == [("hidden states", False), ("tower features", True)]
    assert prepared.caches[0].bytes > 1e-6 * 1e9
    assert len(losses(lines)) == 3
