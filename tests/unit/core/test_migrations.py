"""Old names on disk: one table, translated in what a run wrote, named in what a user wrote."""

import json
from pathlib import Path

import pytest
import yaml

from phisight.core import migrations
from phisight.core.dataset_folder import DatasetCard
from phisight.core.errors import DatasetError, RunError, SettingsError
from phisight.core.migrations import RENAMED, current_names, renamed, translate
from phisight.core.recipe import known_keys, load_recipe, read_config, recipe_from, write_recipe
from phisight.core.settings import Recipe

OLD = {"data.photos": "data.images", "learning": "train", "train.lr": "train.learning_rate", "data.magic": None}


@pytest.fixture
def renamed_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrations.RENAMED, "config", OLD)


def write(path: Path, values: object) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.usefixtures("renamed_settings")
def test_a_runs_config_is_translated(tmp_path: Path) -> None:
    values = {"learning": {"lr": 0.5, "steps": 7}, "data": {"photos": 3, "magic": True}, "seed": 1}
    config = write(tmp_path / "config.yaml", values)
    recipe = read_config(config, ["train.batch_size=2"])
    assert (recipe.train.learning_rate, recipe.train.steps, recipe.data.images) == (0.5, 7, 3)
    assert (recipe.seed, recipe.train.batch_size) == (1, 2)


@pytest.mark.usefixtures("renamed_settings")
def test_a_users_old_key_is_refused_with_its_new_name(tmp_path: Path) -> None:
    recipe = write(tmp_path / "recipe.yaml", {"data": {"photos": 3, "magic": True}, "learning": {"steps": 1}})
    with pytest.raises(SettingsError, match=r"'data.photos' is now called 'data.images'") as caught:
        load_recipe(recipe)
    assert "'learning' is now called 'train'" in str(caught.value)
    assert "'data.magic' is no setting any more" in str(caught.value)
    with pytest.raises(SettingsError, match=r"'train.lr' is now called 'train.learning_rate'"):
        recipe_from({}, ["train.lr=1"])
    config = write(tmp_path / "config.yaml", {"data": {"photos": 3}})
    with pytest.raises(SettingsError, match=r"'train.lr' is now called"):
        read_config(config, ["train.lr=1"])


@pytest.mark.usefixtures("renamed_settings")
def test_a_config_with_a_format_is_a_recipe_too(tmp_path: Path) -> None:
    config = write(tmp_path / "config.yaml", {"format": "phisight-run/1", "data": {"photos": 3}})
    assert load_recipe(config).data.images == 3


def test_a_written_recipe_carries_its_format(tmp_path: Path) -> None:
    text = write_recipe(Recipe(seed=4))
    assert text.startswith("format: phisight-run/1\n")
    (tmp_path / "config.yaml").write_text(text)
    assert read_config(tmp_path / "config.yaml") == load_recipe(tmp_path / "config.yaml") == Recipe(seed=4)


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    config = write(tmp_path / "config.yaml", {"format": "phisight-run/2", "unheard": 1})
    with pytest.raises(RunError, match=r"config.yaml has the format 'phisight-run/2'.*reads 'phisight-run/1'"):
        read_config(config)
    with pytest.raises(RunError, match="newer version"):
        load_recipe(config)
    (tmp_path / "dataset.json").write_text(json.dumps({"format": "phisight-dataset/2"}))
    with pytest.raises(DatasetError, match=r"'phisight-dataset/2'.*newer version") as caught:
        DatasetCard.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_card_with_old_names_is_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrations.RENAMED, "dataset", {"lost": "rejected", "source.who": "source.from"})
    values = {
        "task": {"prompt": "What?", "answer": "It is {a}", "fields": {"a": "text"}},
        "key": "a",
        "rows": 3,
        "lost": 2,
        "splits": {"train": 3},
        "source": {"who": "table.csv"},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    card = DatasetCard.read(tmp_path)
    assert card.rejected == 2
    assert card.source == {"from": "table.csv"}


def test_a_star_stands_for_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"intervals.*.kept": "intervals.*.share", "*.gone": None, "a": "b.c"}
    monkeypatch.setitem(migrations.RENAMED, "scores", table)
    values = {"intervals": {"price": {"kept": 1}, "weight": {"kept": 2, "level": 3}}, "real": {"gone": 1}, "a": 5}
    expected = {"intervals": {"price": {"share": 1}, "weight": {"share": 2, "level": 3}}, "real": {}, "b": {"c": 5}}
    assert translate("scores", values) == expected
    assert values["a"] == 5  # what was read is left as it was
    assert renamed("scores", "intervals.price.kept") == "intervals.price.share"
    assert renamed("scores", "intervals.kept") == "intervals.kept"
    assert renamed("scores", "real.gone") is None


def test_the_current_name_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrations.RENAMED, "scores", {"old": "new"})
    assert translate("scores", {"old": 1, "new": 2}) == {"new": 2}


def test_columns_by_current_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrations.RENAMED, "predictions", {"photos": "images", "gone": None})
    assert current_names("predictions", ["row", "photos", "gone"]) == {"row": "row", "images": "photos"}


def test_the_table_renames_to_what_there_is() -> None:
    for table in RENAMED.values():
        assert not set(table) & set(table.values()), "an old name is renamed in one step"
    known = known_keys()
    groups = {key.split(".")[0] for key in known}
    for old, new in RENAMED["config"].items():
        assert old not in known
        assert new is None or new in known or new in groups
