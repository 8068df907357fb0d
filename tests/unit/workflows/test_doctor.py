"""``phisight doctor``: what is wrong is named with its repair, with a GPU and without one."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.recipe import recipe_from
from phisight.workflows.doctor import Finding, examine


def found(recipe: dict[str, Any] | None = None) -> dict[str, Finding]:
    return {one.about: one for one in examine(None if recipe is None else recipe_from(recipe))}


@pytest.fixture
def with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A card that answers as the driver's does; its values may be changed."""
    card: dict[str, Any] = {"free": 70e9, "bf16": True}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="A Card"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (card["free"], 80e9))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: card["bf16"])
    return card


def test_a_machine_without_a_gpu() -> None:
    seen = found()
    assert seen["GPU"].verdict == "note"
    assert "CPU" in seen["GPU"].text
    assert seen["GPU"].repair
    assert "sdpa" in seen["attention"].text
    assert "GB free" in seen["disk"].text
    assert "recipe" not in seen


def test_a_card_and_what_it_lacks(with_a_gpu: dict[str, Any]) -> None:
    seen = found({"model": {"dtype": "float32"}})
    assert seen["GPU 0"].verdict == "ok"
    assert "A Card, 70.0 of 80.0 GB free" in seen["GPU 0"].text
    assert seen["bfloat16"].verdict == "ok"
    assert "float32" in seen["products"].text
    assert "train.bf16" in seen["products"].repair
    with_a_gpu |= {"free": 10e9, "bf16": False}
    seen = found({"train": {"bf16": True}})
    assert "nvidia-smi" in seen["GPU 0"].repair
    assert seen["bfloat16"].verdict == "wrong"
    assert "products" not in seen


def test_what_a_recipe_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    seen = found(
        {
            "model": {"name": str(tmp_path / "model"), "attention": "flash_attention_2"},
            "data": {"path": str(tmp_path / "nothing")},
            "train": {"method": "qlora", "liger": True},
        }
    )
    wrong = {name for name, one in seen.items() if one.verdict == "wrong"}
    assert wrong == {"model.attention", "model", "data", "train.liger", "train.method qlora"}
    assert all(seen[name].repair for name in wrong)
    assert "no weights" in seen["model"].text


def test_a_run_to_start_from(tiny_run: Path, tmp_path: Path) -> None:
    assert found({"model": {"name": str(tiny_run)}})["model"].verdict == "ok"
    (tmp_path / "config.yaml").write_text((tiny_run / "config.yaml").read_text())
    seen = found({"model": {"name": str(tmp_path)}})["model"]
    assert seen.verdict == "wrong"
    assert "has no checkpoint" in seen.repair


def test_a_hub_name_that_was_never_fetched() -> None:
    seen = found({"model": {"name": "nobody/no-such-model"}})
    assert seen["model"].verdict == "note"
    assert seen["model"].repair == "hf download nobody/no-such-model"


def test_the_command_ends_with_1_where_a_run_would_stop(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data:\n  path: {tmp_path / 'nothing'}\n")
    shown = CliRunner().invoke(app, ["doctor", str(recipe)], env={"COLUMNS": "200"})
    assert shown.exit_code == 1
    assert "wrong data" in shown.output
    assert "tiny, made anew" in shown.output
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
