"""``phisight doctor``: what is wrong is named with its repair, with a GPU and without one."""

import importlib.util
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from phisight.cli import app
from phisight.core.recipe import recipe_from
from phisight.workflows.doctor import Finding, examine
from tests.helpers.hub_server import Hub, python_on, running_hub


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
    assert "the hub cannot be reached" in seen["model"].text
    assert seen["model"].repair.startswith("hf download nobody/no-such-model")


ASK = """
import json, sys
from phisight.workflows import doctor
doctor.HUB_S = float(sys.argv[1])
for name in sys.argv[2:]:
    found = doctor._model(*name.split("@"))
    print(json.dumps([found.verdict, found.text, found.repair]))
"""


def told_of(hub: Any, home: Path, seconds: float, *names: str) -> list[list[str]]:
    done = python_on(hub, home, "-c", ASK, str(seconds), *names)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.process
def test_the_hub_is_asked_for_a_name(tmp_path: Path) -> None:
    with running_hub(Hub()) as hub:
        hub.repos["someone/base"] = {"config.json": b"{}"}
        hub.repos["someone/data"] = {"README.md": b"x"}
        names = ("someone/base", "someone/bass", "someone/data", "not a name")
        there, wrong, no_model, odd = told_of(hub, tmp_path, 30, *names)
        assert not list(tmp_path.rglob("config.json")), "nothing is downloaded"
    assert there == ["ok", "someone/base, on the hub; the first run fetches it", ""]
    assert [one[0] for one in (wrong, no_model, odd)] == ["wrong"] * 3
    assert wrong[1] == "someone/bass: the hub has no such model"
    assert no_model[1] == "someone/data: the hub has no config.json"
    assert "model.name" in odd[2]


@pytest.mark.process
def test_a_hub_that_does_not_answer_is_waited_for_so_long(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = SimpleNamespace(url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        ((verdict, text, repair),) = told_of(hub, tmp_path, 0.5, "someone/base")
    assert verdict == "note"
    assert "the hub cannot be reached" in text
    assert repair.startswith("hf download someone/base")


def test_the_driver_is_told_where_its_tool_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for script, told in (("echo 555.42.02; echo 555.42.02", "NVIDIA 555.42.02"), ("exit 9", None), ("echo", None)):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        driver = found().get("driver")
        assert (driver and driver.text) == told


def test_the_command_ends_with_1_where_a_run_would_stop(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data:\n  path: {tmp_path / 'nothing'}\n")
    shown = CliRunner().invoke(app, ["doctor", str(recipe)], env={"COLUMNS": "200"})
    assert shown.exit_code == 1
    assert "wrong data" in shown.output
    assert "tiny, made anew" in shown.output
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
