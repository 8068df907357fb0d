"""``train.bf16: auto`` follows the device's instructions, is settled once for a run, and slow bfloat16 is said."""

import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from phisight.core.errors import SettingsError
from phisight.core.recipe import recipe_from
from phisight.core.settings import TrainSettings
from phisight.train.acceleration.bfloat16 import computes_bfloat16, slow_bfloat16
from phisight.train.distributed.placement import Placement
from phisight.workflows.doctor import examine
from phisight.workflows.load import load_model, read_run
from phisight.workflows.train import train

CPUS: dict[str, tuple[dict[str, Any], bool]] = {
    "x86 of 2020": ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
    "x86 without AVX-512": ({"avx2": True, "avx512_bf16": False}, False),
    "AVX-512 with bfloat16": ({"avx512_f": True, "avx512_bf16": True}, True),
    "AMX": ({"avx512_bf16": False, "amx_bf16": True}, True),
    "ARM with bfloat16": ({"architecture": "aarch64", "neon": True, "bf16": True}, True),
    "ARM without": ({"architecture": "aarch64", "neon": True, "bf16": False}, False),
    "unknown": ({}, False),
}


def on_cpu(monkeypatch: pytest.MonkeyPatch, **found: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(found))


@pytest.mark.parametrize("name", CPUS)
def test_auto_follows_the_instructions_of_the_cpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found, multiplies = CPUS[name]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(found))
    wanted = {"auto": multiplies, True: True, False: False}
    for setting, computes in wanted.items():
        settings = TrainSettings.model_validate({"bf16": setting})
        assert computes_bfloat16(settings) is computes
        with Placement(torch.nn.Linear(2, 2), settings).autocast():
            product = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
        assert product.dtype == (torch.bfloat16 if computes else torch.float32)
    assert (slow_bfloat16("x is", "y") is None) is multiplies


@pytest.mark.parametrize("capable", [True, False])
def test_auto_follows_a_card(monkeypatch: pytest.MonkeyPatch, capable: bool) -> None:
    on_cpu(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capable)
    assert computes_bfloat16(TrainSettings(bf16="auto")) is capable
    assert slow_bfloat16("x is", "y") is None


@pytest.mark.parametrize("written", ["maybe", "Auto", 2])
def test_another_word_is_refused(written: Any) -> None:
    with pytest.raises(SettingsError, match="bf16"):
        recipe_from({"train": {"bf16": written}})


def test_a_run_keeps_the_type_that_it_began_with(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(steps: int, bf16: Any = "auto", *, more: int | None = None) -> list[str]:
        lines: list[str] = []
        values = {
            "out": str(tmp_path / "run"),
            "data": {"path": str(products)},
            "train": {"method": "full", "numbers": "text", "steps": steps, "batch_size": 2, "bf16": bf16},
        }
        train(recipe_from(values), notify=lines.append, resume=more is not None, more_steps=more or None)
        return lines

    on_cpu(monkeypatch)
    lines = run(1)
    assert read_run(tmp_path / "run").train.bf16 is False
    assert [line for line in lines if "instructions" in line] == [
        "train.bf16 auto: float32, since this CPU has no instructions for bfloat16."
    ]
    assert any("100.0% in float32" in line for line in lines)
    assert any("All 1 steps" in line and "train.steps=+N" in line for line in run(1, more=0))

    on_cpu(monkeypatch, avx512_bf16=True)  # another machine continues it
    lines = run(1, more=1)
    assert not any("instructions" in line or "are done" in line for line in lines)
    assert read_run(tmp_path / "run").train.bf16 is False
    assert any("100.0% in float32" in line for line in lines)
    with pytest.raises(SettingsError, match=r"train\.bf16 \(was False, now True\)"):
        run(2, True, more=1)


def test_slow_bfloat16_is_said(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on_cpu(monkeypatch)
    lines: list[str] = []
    values = {
        "out": str(tmp_path / "run"),
        "data": {"path": str(products)},
        "train": {"method": "full", "numbers": "text", "steps": 1, "batch_size": 2, "bf16": True},
    }
    train(recipe_from(values), notify=lines.append)
    assert sum("the steps compute in bfloat16" in line and "train.bf16 to auto" in line for line in lines) == 1
    assert {one.about: one.verdict for one in examine(None)}["bfloat16"] == "note"
    verdicts = {
        bf16: {one.about: one for one in examine(recipe_from({"train": {"bf16": bf16}}))}["recipe"]
        for bf16 in (True, "auto")
    }
    assert (verdicts[True].verdict, verdicts["auto"].verdict) == ("note", "ok")
    assert verdicts[True].repair == "set train.bf16 to auto"

    settings = recipe_from({"model": {"name": "tiny-base"}}).model
    load_model("tiny-base", settings.model_copy(update={"dtype": "float32"}))
    assert not caplog.records
    load_model("tiny-base", settings)
    (record,) = caplog.records
    assert re.search("the weights of .*tiny-base are in bfloat16", record.message)
    assert "--dtype) to float32" in record.message
    caplog.clear()
    on_cpu(monkeypatch, amx_bf16=True)
    load_model("tiny-base", settings)
    assert not caplog.records
    assert {one.about: one.verdict for one in examine(None)}["bfloat16"] == "ok"
