"""What a run leaves behind can be loaded, whichever way it was trained."""

from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import RunError, SettingsError
from phisight.core.recipe import changed, recipe_from, write_recipe
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.checkpoint.best_model import save_best
from phisight.train.trainable.methods import apply_method
from phisight.workflows.load import load_run


def trained_with_lora(model: Any, batch: Any) -> Any:
    wrapped = apply_method(model, TrainSettings(method="lora"), LoraSettings(rank=2))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return wrapped


@pytest.mark.parametrize("whole", [True, False])
def test_adapters_come_back(whole: bool, model: Any, processor: Any, batch: Any, tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    save_best(model, processor, base, whole=True)
    wrapped = trained_with_lora(model, batch).eval()
    with torch.no_grad():
        expected = wrapped(**batch).logits
    save_best(wrapped, processor, run / "best", whole=whole)
    assert (run / "best" / "adapter_config.json").exists() is not whole
    (run / "config.yaml").write_text(write_recipe(recipe_from({"model": {"name": str(base)}})))
    loaded, _, _ = load_run(run)
    with torch.no_grad():
        found = loaded.eval()(**batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(RunError, match="has no checkpoint"):
        load_run(tmp_path)


def test_changes_are_checked() -> None:
    settings = recipe_from({}).evaluate
    assert changed(settings, rows=5, split=None).rows == 5
    with pytest.raises(SettingsError, match="split = 'tset'"):
        changed(settings, split="tset")
