"""A run with a frozen tower stores its features once, and says what it did with them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import ChangedImageError
from phisight.core.recipe import recipe_from
from phisight.core.run_folder import METRICS
from phisight.data.dataset.folder import DatasetFolder
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.workflows.load import read_run
from phisight.workflows.plan import plan
from phisight.workflows.train import Prepared, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    make(16, folder, seed=0, settings=preset("demo"))
    return folder


def run(
    data: Path, out: Path, method: str = "projector", from_layer: int = 0, **settings: Any
) -> tuple[Prepared, list[dict[str, Any]]]:
    recipe = recipe_from(
        {
            "out": str(out),
            "data": {"path": str(data), **settings},
            "train": {
                "method": method,
                "from_layer": from_layer,
                "steps": 3,
                "batch_size": 4,
                "log_every": 1,
                "warmup": 0.0,
            },
        }
    )
    seen: list[Prepared] = []
    train(recipe, announce=seen.append)
    lines = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return seen[0], lines


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_features_are_stored_once_and_change_no_loss(data: Path, tmp_path: Path) -> None:
    first, stored = run(data, tmp_path / "one")
    (report,) = first.caches
    assert (report.kind, report.used) == ("tower features", True)
    assert report.computed > 0
    assert report.folder is not None
    assert report.folder.parent == tmp_path / "features"
    second, again = run(data, tmp_path / "two")
    assert [one.computed for one in second.caches] == [0]
    without, computed = run(data, tmp_path / "three", feature_cache_gb=0)
    assert [(one.used, one.reason) for one in without.caches] == [(False, "data.feature_cache_gb is 0")]
    assert losses(stored) == losses(again)
    assert len(losses(stored)) == 3
    assert losses(stored) == pytest.approx(losses(computed), abs=1e-4)
    assert all(0 <= line["train/padding"] < 1 for line in stored if "train/loss" in line)


@pytest.mark.parametrize("train", [{}, {"from_layer": 1, "method": "lora"}], ids=str)
def test_augmented_images_are_stored_nowhere(data: Path, tmp_path: Path, train: dict[str, Any]) -> None:
    _, same = run(data, tmp_path / "plain", **train, feature_cache_gb=0, trunk_cache_gb=0)
    changed, lines = run(data, tmp_path / "changed", **train, augment=["flip", "crop", "color"])
    assert {(one.used, one.reason) for one in changed.caches} == {(False, "data.augment changes the images")}
    assert losses(lines) != losses(same)
    assert not (tmp_path / "features").exists()
    _, repeated = run(data, tmp_path / "again", **train, augment=["flip", "crop", "color"])
    assert losses(repeated) == losses(lines)
    recipe = read_run(tmp_path / "changed")
    assert plan(recipe).cached == "nothing"
    assert plan(recipe.model_copy(update={"data": recipe.data.model_copy(update={"augment": []})})).cached != "nothing"


def test_what_does_not_fit_is_told_and_computed(data: Path, tmp_path: Path) -> None:
    prepared, lines = run(data, tmp_path / "small", feature_cache_gb=1e-6)
    (report,) = prepared.caches
    assert not report.used
    assert report.bytes > 1e-6 * 1e9
    assert not (tmp_path / "features").exists()
    assert len(losses(lines)) == 3


def test_a_tower_that_trains_is_not_stored(data: Path, tmp_path: Path) -> None:
    prepared, _ = run(data, tmp_path / "full", method="full")
    assert [(one.used, one.reason) for one in prepared.caches] == [(False, "the tower trains")]
    assert not (tmp_path / "features").exists()


def test_an_image_that_changed_is_an_error_also_where_its_features_are_stored(data: Path, tmp_path: Path) -> None:
    """The cache is named after the hash of the table: other images must not train as the old ones."""
    own = tmp_path / "data"
    shutil.copytree(data, own)
    run(own, tmp_path / "one")
    row = DatasetFolder.open(own).rows("train")[2]
    path = own / row["file_name"]
    path.write_bytes(path.read_bytes()[:-2] + b"\0\0\xff\xd9")
    every: list[dict[str, Any]] = [{}, {"feature_cache_gb": 0}, {"feature_cache_gb": 0, "workers": 1}]
    for settings in every:
        with pytest.raises(ChangedImageError) as caught:
            run(own, tmp_path / f"again{len(settings)}", **settings)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
