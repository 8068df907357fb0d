"""Training that starts from a folder, a run or adapters: what is saved has the loss that was reported."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import RunError, SettingsError
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.images.decode import load_image
from phisight.export.subject import subject_of
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.load import load_run
from tests.helpers.trained_run import trained

LARGE: dict[str, Any] = {"steps": 3, "learning_rate": 3e-2, "evaluate_every": 3, "numbers": "text"}


@pytest.fixture(scope="module")
def adapters(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best holds adapters alone, far from their base."""
    return trained(products, tmp_path_factory.mktemp("first") / "lora", model=str(base), method="lora", **LARGE)


def loss_of(run: Path, products: Path) -> float:
    """Mean loss over the trained tokens of the validation split, of the saved folder."""
    model, processor, _ = load_run(run)
    data = DatasetFolder.open(products)
    rows = data.rows("validation")
    examples = ExampleSet(rows, lambda row: load_image(data.image_path(row)), processor, data.task, num_crops=1)
    batch = Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(len(rows))])
    model.eval()
    with torch.no_grad():
        loss: float = model(**batch).loss.item()
    return loss


def reported(run: Path) -> float:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return min(float(line["eval/loss"]) for line in lines if "eval/loss" in line)


@pytest.mark.parametrize("start", ["folder", "run", "adapters"])
@pytest.mark.parametrize("method", ["full", "lora", "dora", "projector"])
def test_the_saved_folder_has_the_loss_that_was_reported(
    method: str, start: str, adapters: Path, tiny_run: Path, base: Path, products: Path, tmp_path: Path
) -> None:
    name = {"folder": base, "run": tiny_run, "adapters": adapters / "best"}[start]
    run = trained(products, tmp_path / "run", model=str(name), method=method, **LARGE)
    assert loss_of(run, products) == pytest.approx(reported(run), abs=2e-3)


def test_adapters_continue_on_a_base_that_holds_the_first_ones(adapters: Path, products: Path, tmp_path: Path) -> None:
    run = trained(products, tmp_path / "run", model=str(adapters), method="lora", **LARGE)
    assert subject_of(run).weights == str(run / "base")
    base = loss_of(run, products)
    changed = json.loads((run / "best" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(changed).name == "base"
    origins = json.loads((run / "best" / "origins.json").read_text())
    assert origins["model"]["relative"] == "../base"
    assert base == pytest.approx(reported(run), abs=2e-3)


def test_a_run_that_was_moved_evaluates(adapters: Path, products: Path, tmp_path: Path) -> None:
    """With its base and data set beside it, at other places than the recipe names."""
    first = tmp_path / "first"
    data, base = first / "data", first / "model"
    shutil.copytree(products, data)
    shutil.copytree(subject_of(adapters).weights, base)
    run = trained(data, first / "run", model=str(base), method="lora", **LARGE)
    expected = loss_of(run, products)
    moved = tmp_path / "second"
    first.rename(moved)
    assert loss_of(moved / "run", products) == expected
    assert evaluate_run(moved / "run", base_model_rows=2)["rows"] == 8
    shutil.rmtree(moved / "model")
    with pytest.raises(RunError, match=r"was made from the base model .* which is not at .*; copy it") as error:
        load_run(moved / "run")
    assert "\n" not in str(error.value)


def test_a_folder_of_that_name_that_holds_another_model_is_seen(adapters: Path, base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(adapters, run)
    path = run / "origins.json"
    values: dict[str, Any] = json.loads(path.read_text())
    values["model"]["fingerprint"] = "of something else"
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match="a folder of that name holds other files"):
        load_run(run)


def test_a_run_does_not_train_from_itself(tiny_run: Path, products: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    with pytest.raises(SettingsError, match="cannot train from itself"):
        trained(products, run, model=str(run / "best"))
    assert (run / "best" / "config.json").is_file()


def test_best_carries_card_and_task_file(tiny_run: Path) -> None:
    card = (tiny_run / "best" / "README.md").read_text()
    assert "## Trained on" in card
    assert "[More Information Needed]" not in card
    task = json.loads((tiny_run / "best" / "task.json").read_text())
    assert task["format"] == "phisight-task/1"
    assert task["task"]["prompt"] in card
