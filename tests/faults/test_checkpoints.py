"""A broken checkpoint is skipped with a warning, the good ones are kept, and another recipe does not go on."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import RunError, SettingsError
from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.recorded import RecordedImage
from phisight.train.checkpoint import manifest
from phisight.workflows.train import CHECKED_EXAMPLES, train
from tests.helpers.small_run import curve, small_recipe, weights


class PowerCutError(Exception):
    """Nothing catches it."""


class Until:
    """Lets a run go to a step, then ends it without a word."""

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.steps: list[int] = []

    def begin(self, steps: int) -> None:
        pass

    def step(self, step: int) -> None:
        self.steps.append(step)
        if step == self.last:
            raise PowerCutError

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        pass


def cut_at(recipe: Recipe, step: int, **options: Any) -> None:
    with pytest.raises(PowerCutError):
        train(recipe, progress=Until(step), **options)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were opened, in order."""
    names: list[str] = []

    load = RecordedImage.load

    def noted(image: RecordedImage) -> Any:
        names.append(image.path.name)
        return load(image)

    monkeypatch.setattr(RecordedImage, "load", noted)
    return names


def test_the_order_goes_on_and_nothing_is_opened_twice(recipe: Callable[..., Recipe], loaded: list[str]) -> None:
    """20 rows, 4 a step, 5 steps an epoch: step 8 lies in the middle of the second one."""
    wanted = recipe(save_every=1, evaluate_every=None, steps=9, workers=0)
    wanted.data.keep_pixels_gb = 0
    train(wanted)
    whole, figures, best = loaded.copy(), curve(wanted.out), weights(wanted.out)
    train_rows = 20
    before, at_end = CHECKED_EXAMPLES, len(whole) - CHECKED_EXAMPLES - 9 * 4
    assert 0 <= at_end <= 24 - train_rows  # validation, once
    shutil.rmtree(wanted.out)
    cut_at(wanted, 8)
    loaded.clear()
    seen = Until()
    train(wanted, resume=True, progress=seen)
    assert seen.steps == [8, 9]
    assert loaded == [*whole[:before], *whole[before + 7 * 4 :]]
    assert curve(wanted.out) == figures
    assert all(value.equal(best[name]) for name, value in weights(wanted.out).items())


@pytest.fixture(scope="module")
def cut(data: Path, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, list[dict[str, Any]]]:
    """Recipe of a run that was cut at step 7, with checkpoints of steps 4 and 6, and the whole curve."""
    out = tmp_path_factory.mktemp("cut")
    whole, half = (
        small_recipe(data, small_model, out / name, steps=7, save_every=2, evaluate_every=None) for name in "ab"
    )
    train(whole)
    cut_at(half, 7)
    return half, curve(whole.out)


@pytest.mark.parametrize("damage", ["truncated", "missing", "changed", "no manifest"])
def test_a_broken_checkpoint_is_passed_over(
    damage: str, cut: tuple[Recipe, list[dict[str, Any]]], tmp_path: Path
) -> None:
    before, figures = cut
    wanted = before.model_copy(update={"out": tmp_path / "moved"})
    shutil.copytree(before.out, wanted.out)
    folder = wanted.out / "checkpoints"
    assert manifest.checkpoint_steps(folder) == [6, 4]
    state = folder / "checkpoint-6" / "optimizer.pt"
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-100])
    elif damage == "missing":
        state.unlink()
    elif damage == "changed":
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    else:
        (folder / "checkpoint-6" / "manifest.json").unlink()
    said: list[str] = []
    train(wanted, resume=True, notify=said.append)
    assert [line.split()[0] for line in said] == ["The", "Continuing", "Products"]
    assert said[0].startswith("The checkpoint of step 6 is damaged (")
    assert "optimizer.pt" in said[0] or "manifest.json is missing" in said[0]
    assert "after step 4 (1 later lines of metrics are removed" in said[1]
    assert curve(wanted.out) == figures
    assert manifest.checkpoint_steps(folder) == [7, 6]
    assert all(manifest.defect(folder / manifest.name_of(step)) is None for step in (6, 7))


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full", "train_tower": True, "bf16": True, "packing": True},
        {"numbers": "head", "evaluate_every": 2},
        {"from_layer": 1},
        {"method": "dora", "answer_rows": 2, "evaluate_every": 2, "best": "parse_rate", "patience": 1},
    ],
    ids=["full", "head", "trunk", "answers"],
)
def test_every_way_of_training_goes_on(settings: dict[str, Any], recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """With answers, no figure is ever better than the first: the run stops early, whenever it is stopped in between."""
    wanted = recipe(**{"steps": 6, "save_every": 2, "evaluate_every": None, **settings})
    wanted.evaluate.max_new_tokens = 4
    whole = wanted.model_copy(update={"out": tmp_path / "whole"})
    train(whole)
    last = manifest.checkpoint_steps(whole.out / "checkpoints")[0]
    assert last == (4 if "patience" in settings else 6)
    cut_at(wanted, last - 1)
    best = weights(whole.out)
    assert best
    for _ in range(2):
        train(wanted, resume=True)
        assert curve(wanted.out) == curve(whole.out)
        assert all(value.equal(best[name]) for name, value in weights(wanted.out).items())
        shutil.rmtree(wanted.out / "best")  # as if killed after the last checkpoint


def test_without_a_checkpoint_the_run_begins_again(recipe: Callable[..., Recipe]) -> None:
    wanted = recipe(steps=3, log_every=1)
    cut_at(wanted, 2)
    assert curve(wanted.out)
    said: list[str] = []
    train(wanted, resume=True, notify=said.append)
    assert "from the beginning: there is no checkpoint yet" in said[0]
    assert [line["step"] for line in curve(wanted.out)] == [1, 2, 3, 3]


def test_another_recipe_does_not_go_on(recipe: Callable[..., Recipe]) -> None:
    cut_at(recipe(steps=4, save_every=2), 3)
    with pytest.raises(SettingsError, match=r"lora.rank \(was 2, now 4\), train.steps \(was 4, now 5\)"):
        train(recipe(steps=5).model_copy(update={"lora": recipe().lora.model_copy(update={"rank": 4})}), resume=True)
    with pytest.raises(RunError, match="4 examples a step, now they are 2"):
        train(recipe(steps=4, save_every=2, accumulate=1), resume=True)
    train(recipe(steps=4, save_every=1, batch_size=1, accumulate=4, workers=1), resume=True)
    assert [line["step"] for line in curve(recipe().out)] == [2, 3, 4, 4]
    assert manifest.checkpoint_steps(recipe().out / "checkpoints") == [4, 3]


def test_other_rows_do_not_go_on(recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe(steps=4, save_every=2)
    cut_at(wanted, 3)
    rows = DatasetFolder.rows
    monkeypatch.setattr(DatasetFolder, "rows", lambda self, split: rows(self, split)[::-1])
    with pytest.raises(RunError, match="trained on other rows"):
        train(wanted, resume=True)


def test_overwriting_leaves_nothing_to_go_on_from(recipe: Callable[..., Recipe]) -> None:
    cut_at(recipe(steps=4, save_every=2), 3)
    with pytest.raises(SettingsError, match="--resume"):
        train(recipe(steps=4, save_every=2))
    cut_at(recipe(steps=4, save_every=2, learning_rate=0.02), 1, overwrite=True)
    assert manifest.checkpoint_steps(recipe().out / "checkpoints") == []


def whole(folder: Path, step: int) -> None:
    (folder / manifest.PARTIAL / manifest.name_of(step)).mkdir(parents=True)
    (folder / manifest.PARTIAL / manifest.name_of(step) / "weights").write_text(str(step))
    manifest.publish(folder, step)


def test_the_best_and_the_good_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        whole(tmp_path, step)
    manifest.prune(tmp_path, best=1)
    assert manifest.checkpoint_steps(tmp_path) == [4, 3, 1]
    (tmp_path / "checkpoint-4" / "weights").unlink()
    (tmp_path / "checkpoint-3" / "weights").write_text("torn apart")
    manifest.prune(tmp_path, best=None)  # one good one is left: nothing goes
    assert manifest.checkpoint_steps(tmp_path) == [4, 3, 1]
    whole(tmp_path, 5)
    manifest.prune(tmp_path, best=None)
    assert manifest.checkpoint_steps(tmp_path) == [5, 4, 3, 1]
    whole(tmp_path, 6)
    manifest.prune(tmp_path, best=None)
    assert manifest.checkpoint_steps(tmp_path) == [6, 5]


def test_a_broken_one_is_replaced(tmp_path: Path) -> None:
    whole(tmp_path, 1)
    (tmp_path / "checkpoint-1" / "weights").write_text("x")
    assert manifest.defect(tmp_path / "checkpoint-1") == "weights does not have the bytes that were written"
    whole(tmp_path, 1)
    assert manifest.defect(tmp_path / "checkpoint-1") is None
    assert not (tmp_path / manifest.PARTIAL).exists()
