"""The recipe: read, overridden, refused."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from phisight.core.errors import SettingsError
from phisight.core.recipe import known_keys, load_recipe, recipe_from, write_recipe
from phisight.core.settings import Recipe

ROOT = Path(__file__).parents[2]


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("train:\n  learning_rate: 0.1\n  steps: 7\n")
    recipe = load_recipe(path, ["train.learning_rate=1e-4", "data.path=elsewhere", "track.to=[wandb]"])
    assert recipe.train.learning_rate == 1e-4
    assert recipe.train.steps == 7
    assert recipe.data.path == Path("elsewhere")
    assert recipe.track.to == ["wandb"]


def test_a_written_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = recipe_from({"seed": 3, "task": {"prompt": "What?", "answer": "It is {a}", "fields": {"a": "text"}}})
    path = tmp_path / "config.yaml"
    path.write_text(write_recipe(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.learning_rte", "train.learning_rate"),
        ("lerning_rate", "train.learning_rate"),
        ("modle.name", "model"),
        ("data.pth", "data.path"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=f"unknown setting '{key.removesuffix('.name')}', did you mean '{nearest}'"):
        recipe_from({}, [f"{key}=1"])


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        recipe_from({"train": {"batch_size": 0, "method": "magic"}, "evaluat": {}})
    message = str(caught.value)
    assert "train.batch_size" in message
    assert "train.method" in message
    assert "did you mean" in message
    assert "\n" not in message


@pytest.mark.parametrize("override", ["train.steps", "=3", "seed.deep=1"])
def test_an_override_that_is_none(override: str) -> None:
    with pytest.raises(SettingsError, match="--set"):
        recipe_from({"seed": 1}, [override])


def test_a_missing_or_broken_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(SettingsError, match="holds a list, not settings"):
        load_recipe(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_recipe(tmp_path / "broken.yaml")


def test_settings_stay_few() -> None:
    assert len(known_keys()) <= 76


def test_every_setting_has_its_sentence() -> None:
    """The line after a setting is a string that explains it."""
    lines = (ROOT / "src/phisight/core/settings.py").read_text().splitlines()
    wanted = {key.rsplit(".", 1)[-1] for key in known_keys()}
    explained = {
        line.strip().split(":")[0] for line, after in pairwise(lines) if after.strip().startswith('"""') and ":" in line
    }
    assert wanted <= explained


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    assert isinstance(load_recipe(path), Recipe)


LISTS = {"data.augment": ["flip", "crop"], "lora.targets": ["qkv_proj", "o_proj"], "track.to": ["wandb", "mlflow"]}


@pytest.mark.parametrize("key", LISTS)
def test_a_list_may_be_written_as_words(key: str) -> None:
    group, name = key.split(".")
    words = LISTS[key]
    for written in (f"[{','.join(words)}]", ",".join(words), ", ".join(words)):
        assert getattr(getattr(recipe_from({}, [f"{key}={written}"]), group), name) == words
    assert getattr(getattr(recipe_from({group: {name: words[0]}}), group), name) == words[:1]


def every_setting(group: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    for name, field in group.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from every_setting(kind, f"{prefix}{name}.")
        elif name != "task":
            yield prefix + name


@pytest.mark.parametrize("value", [{"a": 1}, object(), [[]]], ids=["mapping", "object", "nested list"])
@pytest.mark.parametrize("key", [*every_setting()])
def test_a_wrong_value_is_told_once_under_the_setting_s_own_name(key: str, value: object) -> None:
    values: Any = value
    for name in reversed(key.split(".")):
        values = {name: values}
    with pytest.raises(SettingsError) as found:
        recipe_from(values)
    message = str(found.value)
    assert message.startswith(f"the recipe: {key} = ")
    assert message.count(f"{key} = ") == 1
    assert "\n" not in message


def test_values_stand_in_messages_as_a_recipe_has_them() -> None:
    for value, written in ((None, "null"), (True, "true"), ("2", "'2'"), (-1, "-1")):
        with pytest.raises(SettingsError, match=re.escape(f"model.attention = {written}: ")):
            recipe_from({"model": {"attention": value}})
    with pytest.raises(SettingsError, match=r"train\.bf16 = 'Auto': .*boolean.* or .*'auto'"):
        recipe_from({"train": {"bf16": "Auto"}})
    with pytest.raises(SettingsError, match=r"data\.augment = 'rotate': .*'flip', 'crop' or 'color'"):
        recipe_from({"data": {"augment": ["flip", "rotate"]}})
