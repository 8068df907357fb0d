"""Training that starts from a folder, a run or adapters: what is saved has the loss that was reported."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from phisight.core.errors import RunError, SettingsError
from phisight.export.subject import read_run, subject_of
from phisight.workflows.evaluate import evaluate_run
from phisight.workflows.load import load_run
from tests.helpers.start_losses import LARGE, METHODS, loss_of, losses_of, reported, require_one_loss
from tests.helpers.trained_run import trained


@pytest.fixture(scope="module")
def adapters(base: Path, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best holds adapters alone, far from their base."""
    return trained(products, tmp_path_factory.mktemp("first") / "lora", model=str(base), method="lora", **LARGE)


@pytest.fixture(scope="module")
def starts(
    base: Path, tiny_run: Path, adapters: Path, products: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """What a training may start from, by kind."""
    folder = tmp_path_factory.mktemp("starts")
    second = trained(products, folder / "second", model=str(adapters), method="lora", **LARGE)
    return {
        "folder": base,
        "run": tiny_run,
        "run of adapters": adapters,
        "folder of adapters": copy_of_adapters(adapters, folder / "alone", base),
        "run of adapters on adapters": second,
        "adapters whose base is adapters": copy_of_adapters(second, folder / "chain", adapters / "best"),
    }


def copy_of_adapters(run: Path, out: Path, base: Path) -> Path:
    """The adapters of a run as another program hands them on: the two files, with a base of their own."""
    out.mkdir()
    shutil.copy(run / "best" / "adapter_model.safetensors", out)
    values = json.loads((run / "best" / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps({**values, "base_model_name_or_path": str(base)}))
    return out


KINDS = [
    "folder", "run", "run of adapters", "folder of adapters", "run of adapters on adapters",
    "adapters whose base is adapters",
]  # fmt: skip


@pytest.mark.parametrize("start", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_reported_saved_and_exported_loss_are_one(
    method: str, start: str, starts: dict[str, Path], products: Path, tmp_path: Path
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    require_one_loss(method, losses_of(method, str(starts[start]), products, tmp_path))


def test_adapters_continue_on_a_base_that_holds_the_first_ones(adapters: Path, products: Path, tmp_path: Path) -> None:
    run = trained(products, tmp_path / "run", model=str(adapters), method="lora", **LARGE)
    assert subject_of(run).weights == str(run / "base")
    loss = loss_of(run, read_run(run), products)
    changed = json.loads((run / "best" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(changed).name == "base"
    origins = json.loads((run / "best" / "origins.json").read_text())
    assert origins["model"]["relative"] == "../base"
    assert loss == pytest.approx(reported(run), abs=2e-3)


def test_a_run_that_was_moved_evaluates(adapters: Path, products: Path, tmp_path: Path) -> None:
    """With its base and data set beside it, at other places than the recipe names."""
    first = tmp_path / "first"
    data, base = first / "data", first / "model"
    shutil.copytree(products, data)
    shutil.copytree(subject_of(adapters).weights, base)
    run = trained(data, first / "run", model=str(base), method="lora", **LARGE)
    expected = loss_of(run, read_run(run), products)
    moved = tmp_path / "second"
    first.rename(moved)
    assert loss_of(moved / "run", read_run(moved / "run"), products) == expected
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
