"""A run on pairs: curves, checkpoints, exact resume, and settings that contradict each other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import SettingsError
from phisight.core.recipe import recipe_from
from phisight.core.settings import Recipe
from phisight.workflows.preference_training import check_objective
from phisight.workflows.train import Prepared, train
from tests.helpers.answer_pairs import write_pairs
from tests.helpers.resumed_run import assert_equal_runs, stopped_after
from tests.helpers.small_run import curve, save_small_model, small_recipe

FIGURES = {
    "reward_margin",
    "reward_accuracy",
    "chosen_log_probability",
    "rejected_log_probability",
    "kl",
    "image_reward_margin",
    "image_reward_accuracy",
}


@pytest.fixture(scope="module")
def made(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    folder = tmp_path_factory.mktemp("pairs")
    save_small_model(products, folder / "model")
    pairs = write_pairs(products, folder / "pairs.jsonl")

    def recipe(out: Path, *, features: float = 0, image_weight: float = 1.0, **settings: Any) -> Recipe:
        small = small_recipe(products, folder / "model", out, objective="dpo", numbers="text", **settings)
        values = small.model_dump(mode="json")
        values["data"]["feature_cache_gb"] = features
        values["preference"] |= {"pairs": str(pairs), "image_weight": image_weight}
        return recipe_from(values)

    return recipe


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora"},
        {"method": "lora", "packing": True, "features": 1},
        {"method": "full", "train_tower": True, "image_weight": 0.0},
    ],
    ids=str,
)
def test_a_stopped_run_continues_bit_for_bit(
    made: Callable[..., Recipe], tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Steps 3 and 6 are saved, 4 and 8 logged: the sums since the last line are part of the checkpoint."""
    short = {"steps": 8, "log_every": 4, "save_every": 3, "evaluate_every": 8, **settings}
    seen: list[Prepared] = []
    whole = train(made(tmp_path / "a" / "run", **short), announce=seen.append)
    pairs = {report.kind: report for report in seen[0].caches}["reference log-probabilities"]
    assert pairs.computed == seen[0].train_rows
    stopped = stopped_after(whole, tmp_path / "b" / "run", 3)
    train(made(stopped, **short), resume=True)
    assert_equal_runs(stopped, whole)
    (line,) = (line for line in curve(whole) if line.get("step") == 8 and "train/loss" in line)
    expected = FIGURES if settings.get("image_weight", 1) else {one for one in FIGURES if "image" not in one}
    assert {name.removeprefix("train/") for name in line} >= expected
    assert ("train/image_reward_margin" in line) == bool(settings.get("image_weight", 1))
    assert line["train/reward_margin"] != 0
    assert line["train/kl"] > 0


def test_the_second_run_computes_no_reference(made: Callable[..., Recipe], tmp_path: Path) -> None:
    seen: list[Prepared] = []
    for name in ("one", "two"):
        train(made(tmp_path / name, steps=1, from_layer=1), announce=seen.append)
    kinds = [{report.kind: report for report in one.caches} for one in seen]
    assert kinds[0]["reference log-probabilities"].computed == seen[0].train_rows
    assert kinds[1]["reference log-probabilities"].computed == 0
    assert "several answers" in str(kinds[0]["hidden states"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preference": {"pairs": None}}, "preference.pairs is not set"),
        ({"train": {"objective": "sft"}}, "set train.objective to dpo"),
        ({"train": {"numbers": "head"}}, "set train.numbers to text"),
        ({"data": {"augment": ["flip"]}}, "leave data.augment out"),
        ({"train": {"patience": 2}}, "set train.best to a figure of the answers"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other(
    made: Callable[..., Recipe], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    values = made(tmp_path / "run").model_dump(mode="json")
    check_objective(recipe_from(values))
    for group, settings in changes.items():
        values[group] |= settings
    with pytest.raises(SettingsError, match=words.replace(".", r"\.")) as found:
        train(recipe_from(values))
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_pairs_that_are_too_long_are_said(made: Callable[..., Recipe], tmp_path: Path) -> None:
    values = made(tmp_path / "run", steps=1).model_dump(mode="json")
    values["data"]["max_length"] = 3
    with pytest.raises(SettingsError, match=r"longer than 3 tokens \(the longest \d+\)"):
        train(recipe_from(values))


def test_pairs_that_cannot_be_used_are_said(made: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = made(tmp_path / "run", steps=1)
    assert recipe.preference.pairs is not None
    lines = recipe.preference.pairs.read_text(encoding="utf-8").splitlines()[:6]
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join([lines[0], "{", json.dumps({"images": []}), *lines[1:]]) + "\n", encoding="utf-8")
    said: list[str] = []
    settings = recipe.preference.model_copy(update={"pairs": broken})
    train(recipe.model_copy(update={"preference": settings}), notify=said.append)
    assert any("2 of 8 pairs are left out" in line for line in said)
