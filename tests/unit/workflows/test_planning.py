"""``phisight plan``: what it says of a recipe is what training does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phisight.cli import app
from phisight.cli.plan import choice
from phisight.core.errors import SettingsError
from phisight.core.recipe import recipe_from
from phisight.core.settings import Recipe, TrainSettings
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.train.estimate.cards import CARDS, Card, card
from phisight.train.estimate.flops import Cached
from phisight.train.estimate.measured_shares import MEASURED, most_alike
from phisight.train.estimate.planned_run import Setting
from phisight.workflows.plan import _planned, plan
from phisight.workflows.train import train
from tests.helpers.planned_steps import Steps


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("plan")
    make(24, folder / "data", seed=0, settings=preset("demo"))
    values = {"method": "projector", "epochs": 1, "batch_size": 3, "accumulate": 2, "log_every": 1}
    return recipe_from({"out": str(folder / "run"), "data": {"path": str(folder / "data")}, "train": values})


def test_steps_and_padding_are_those_of_training(recipe: Recipe) -> None:
    made, watcher = plan(recipe), Steps()
    train(recipe, progress=watcher)  # type: ignore[arg-type]
    assert made.steps == made.steps_per_epoch == watcher.planned
    assert made.padding == pytest.approx(watcher.padding)
    assert made.padding > 0


def test_methods_share_weights_and_differ_in_the_rest(recipe: Recipe) -> None:
    memory = plan(recipe).memory
    assert memory["full + tower"].gradients > memory["full"].gradients > memory["projector"].gradients
    assert memory["lora"].optimizer == 2 * memory["lora"].gradients
    assert memory["full"].weights == memory["projector"].weights < memory["lora"].weights
    assert memory["qlora"].weights < memory["lora"].weights
    assert memory["projector"].activations < memory["lora"].activations < memory["full + tower"].activations


@pytest.mark.parametrize("train", [{"method": "dora"}, {"method": "lora", "train_tower": True}, {"from_layer": 2}])
def test_the_recipe_is_always_among_the_methods(recipe: Recipe, train: dict[str, Any]) -> None:
    own = recipe.model_copy(update={"train": recipe.train.model_copy(update={"method": "lora", **train})})
    made = plan(own)
    assert made.memory[made.chosen].peak > 0
    if "from_layer" in train:
        assert made.memory["lora"].activations < plan(recipe).memory["lora"].activations


def test_the_command_shows_the_recipe_among_the_methods(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data:\n  path: {recipe.data.path}\n")
    shown = CliRunner().invoke(app, ["plan", str(path), "--set", "train.method=lora"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    assert "lora (this recipe)" in shown.output
    assert "1 (this recipe)" in shown.output
    assert "full + tower" in shown.output


def test_hours_are_flops_over_what_a_card_computes(recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"bf16": True})})
    made = plan(recipe, price=2.0, measure_cpu=False)
    assert [one.speed.name for one in made.devices] == [one.name for one in CARDS]
    for device in made.devices:
        least = made.steps * 6 * made.work.executed / made.work.examples / device.speed.flops
        assert device.duration.hours * 3600 >= least
        assert device.cost == pytest.approx(2 * device.duration.hours)
        assert device.largest_batch is not None
        assert device.fits == (device.largest_batch >= recipe.train.batch_size)
    hours = {one.speed.name: one.duration.hours for one in made.devices}
    assert hours["H200"] <= hours["H100"] < hours["A100 80GB"] < hours["A10G"]


def test_this_machine_is_measured(recipe: Recipe) -> None:
    (cpu, *_) = plan(recipe).devices
    assert cpu.speed.name == "this CPU"
    assert cpu.speed.flops > 1e8
    assert cpu.largest_batch is None


def test_the_recommended_setting_is_the_fastest_that_fits(recipe: Recipe) -> None:
    large = Card("large", 100, 1000, 80, 10)
    made = plan(recipe, card=large, price=1.0, measure_cpu=False).recommended
    assert made is not None
    assert made.batch_size * made.accumulate == recipe.train.batch_size * recipe.train.accumulate
    assert not made.checkpointing
    small = Card("small", 100, 1000, made.peak / 1e9, 10)  # nine tenths of it may be filled
    less = plan(recipe, card=small, measure_cpu=False).recommended
    assert less is not None
    assert less.peak < made.peak
    assert plan(recipe, card=Card("none", 100, 1000, 1e-4, 10), measure_cpu=False).recommended is None


def test_every_card_gets_what_fits_it(recipe: Recipe) -> None:
    made = plan(recipe, measure_cpu=False)
    assert [one.name for one, _ in made.by_card] == [one.name for one in CARDS]
    for one, setting in made.by_card:
        assert setting is not None
        assert setting.peak <= 0.9e9 * one.gigabytes
    assert made.by_card[0][1] == plan(recipe, card=CARDS[0], measure_cpu=False).recommended


def test_fewer_crops_are_recommended_where_the_recipe_s_fit_in_no_setting(recipe: Recipe) -> None:
    many = recipe.model_copy(update={"model": recipe.model.model_copy(update={"num_crops": 16})})
    least = min(one.peak for one in _settings_of(many))
    made = plan(many, card=Card("small", 100, 1000, least / 1e9, 10), sweep=True, measure_cpu=False)
    assert made.recommended is not None
    assert made.recommended.num_crops < 16
    assert made.recommended in made.sweep
    assert "fits small in no setting" in choice(made, "small")
    whole = plan(many, card=CARDS[0], sweep=True, measure_cpu=False)
    assert "Chosen: num_crops 16" in choice(whole, "A10G")


def _settings_of(recipe: Recipe) -> list[Setting]:
    case = _planned(recipe)
    return list(case._settings(Card("any", 100, 1000, 1000, 10), None))


RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def test_measured_shares_are_those_of_the_result_files() -> None:
    files = {path.name.split("-")[1].upper(): json.loads(path.read_text()) for path in RESULTS.glob("nvidia-*.json")}
    for one in MEASURED:
        found = files[one.card]["parts"] if "parts" in files[one.card] else files[one.card]
        assert round(found[one.part][one.name]["model_tflops"]) == one.teraflops
        assert card(one.card).teraflops > one.teraflops * one.recomputed


def test_a_run_takes_the_measurement_most_like_it() -> None:
    def name(cached: Cached, tokens: float, **train: Any) -> str | None:
        found = most_alike("H200", TrainSettings(**train), cached, tokens)
        return None if found is None else found.name

    assert name("features", 700) == "757 image tokens: ours, features in memory"
    assert name("nothing", 3000) == "2,509 image tokens: ours, tower computed"
    assert name("hidden states", 700, from_layer=20) == "757 image tokens: ours, hidden states in memory"
    assert name("nothing", 2000, method="qlora") == "757 image tokens: QLoRA, features in memory"
    assert str(name("nothing", 2000, method="full")).startswith("757 image tokens: every weight")
    assert name("features", 700, method="projector") == "757 image tokens: ours, features in memory"
    assert most_alike("L4", TrainSettings(), "nothing", 700) is None


def test_a_sweep_tells_what_crops_cost(recipe: Recipe) -> None:
    swept = plan(recipe, card=CARDS[0], sweep=True, measure_cpu=False).sweep
    assert [one.num_crops for one in swept] == [1, 4, 9, 16]
    assert [one.image_tokens for one in swept] == sorted(one.image_tokens for one in swept)
    assert [one.hours for one in swept] == sorted(one.hours for one in swept)


def test_the_command_tells_formula_hours_and_cost(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data:\n  path: {recipe.data.path}\n")
    options = ["--price", "3", "--card", "h100", "--sweep", "num_crops"]
    shown = CliRunner().invoke(app, ["plan", str(path), *options], env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    for told in (
        "matrix rate x efficiency",
        "gradients of frozen weights excluded",
        "H200",
        "num_crops on H100",
        "Chosen: num_crops 1, batch_size ",
        "cost",
        "< 0.01",
    ):
        assert told in shown.output
    assert not re.search(r"\de-\d", shown.output)  # no hours of 1.2e-05
    refused = CliRunner().invoke(app, ["plan", str(path), "--card", "B999"])
    assert isinstance(refused.exception, SettingsError)
    assert "known are A10G" in str(refused.exception)
