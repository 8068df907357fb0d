"""``phisight plan`` for preference training: what it says of a recipe is what training does."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.recipe import recipe_from
from phisight.core.settings import Recipe
from phisight.data.dataset.folder import DatasetFolder
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.train.acceleration.patch import fused_layers
from phisight.train.examples.abstaining import TrainingImages
from phisight.train.examples.collators import Collator
from phisight.train.examples.pair_set import PairCollator, PairSet
from phisight.train.loop import prepare_model
from phisight.train.losses.preference import preference_loss
from phisight.train.trainable.methods import apply_method
from phisight.workflows.plan import plan
from phisight.workflows.preference_training import pair_set
from phisight.workflows.train import Prepared, starting_model, train
from tests.helpers.answer_pairs import write_pairs
from tests.helpers.peak_memory import peak_of_the_second_step
from tests.helpers.planned_steps import Steps


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plan")
    make(24, folder / "data", seed=0, settings=preset("demo"), workers=1)
    pairs = write_pairs(folder / "data", folder / "pairs.jsonl")
    settings = {"objective": "dpo", "numbers": "text", "method": "lora", "epochs": 1, "batch_size": 3}
    return {
        "out": str(folder / "run"),
        "model": {"name": "tiny"},
        "data": {"path": str(folder / "data")},
        "train": {**settings, "accumulate": 2, "log_every": 1},
        "preference": {"pairs": str(pairs)},
    }


def changed(values: dict[str, Any], group: str, **more: Any) -> Recipe:
    return recipe_from({**values, group: {**values[group], **more}})


def test_pairs_steps_and_padding_are_those_of_training(values: dict[str, Any]) -> None:
    recipe = recipe_from(values)
    made, watcher, seen = plan(recipe, measure_cpu=False), Steps(), list[Prepared]()
    train(recipe, progress=watcher, announce=seen.append)  # type: ignore[arg-type]
    assert made.rows == seen[0].train_rows
    assert made.steps == watcher.planned
    assert made.padding == pytest.approx(watcher.padding)
    (scores,) = (one for one in seen[0].caches if one.kind == "reference log-probabilities")
    assert scores.bytes <= made.reference_bytes <= 4 * scores.bytes
    assert made.sides == 3
    assert made.batch.examples == 9


def test_a_third_side_takes_half_as_much_again(values: dict[str, Any]) -> None:
    three, two = (plan(changed(values, "preference", image_weight=w), measure_cpu=False) for w in (1.0, 0.0))
    assert (three.sides, two.sides) == (3, 2)
    assert three.work.parts["decoder"] / two.work.parts["decoder"] == pytest.approx(1.5, rel=0.1)
    assert three.work.examples == two.work.examples == two.rows
    assert two.work.filling > 0  # the reference scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "image_weight", "checkpointing"),
    [("lora", 1.0, False), ("lora", 0.0, False), ("full", 1.0, False), ("lora", 1.0, True)],
)
def test_memory_is_near_what_a_step_takes(
    values: dict[str, Any], method: str, image_weight: float, checkpointing: bool
) -> None:
    settings = {**values["train"], "method": method, "gradient_checkpointing": checkpointing, "batch_size": 4}
    preference = {**values["preference"], "image_weight": image_weight}
    recipe = recipe_from({**values, "train": {**settings, "accumulate": 1}, "preference": preference})
    folder = DatasetFolder.open(recipe.data.path)
    model, processor = starting_model(recipe, folder.task, folder.rows("train"))
    source = TrainingImages(folder, recipe.preference.pairs, None)
    pairs, _ = pair_set(recipe, source, folder.rows("train"), processor, folder.task, lambda _: None)
    tower = recipe.train.model_copy(update={"train_tower": method == "full"})
    model = apply_method(model, tower, recipe.lora)
    prepare_model(model, recipe)
    expected = plan(recipe, measure_cpu=False).memory["full + tower" if method == "full" else method]
    with fused_layers(model, wanted=True):
        measured = measured_peak(model, processor, pairs, recipe)
    assert expected.peak == pytest.approx(measured, rel=0.2 if method == "full" else 0.15)


def measured_peak(model: Any, processor: Any, pairs: PairSet, recipe: Recipe) -> int:
    """Most bytes of tensors in the second step on the longest pairs, parameters and optimizer counted."""
    longest = sorted(range(len(pairs)), key=lambda index: -pairs.lengths[index])[: recipe.train.batch_size]
    batch = PairCollator(Collator(processor.tokenizer.pad_token_id))([pairs[index] for index in longest])
    batch["reference"] = torch.zeros(len(longest), batch["sides"])
    loss = preference_loss(recipe.preference)
    model.train()

    def backward() -> None:
        divisor = torch.tensor(float(len(longest)))
        loss.compute(model(**loss.inputs(batch, divisor)), batch, divisor).loss.backward()  # type: ignore[no-untyped-call]

    return peak_of_the_second_step(model, backward)


def test_the_command_says_pairs_and_reference_scores(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    found = CliRunner().invoke(app, ["plan", str(path), "--card", "H100"], env={"COLUMNS": "200"})
    assert found.exit_code == 0, found.output
    assert "pairs of 3 sequences" in found.output
    assert "reference scores" in found.output
    assert "9 sequences a micro-batch" in found.output
