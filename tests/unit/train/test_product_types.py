"""The guard tells in which types the first step multiplies, and warns of float32 where bfloat16 was asked for."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from phisight.train.acceleration.product_types import watched_products
from phisight.train.examples.dataset import ExampleSet
from phisight.train.loop import fit
from tests.helpers.short_fit import Recorder, recipe

CPU = torch.device("cpu")


class CastsItsInput(nn.Linear):
    """A layer as they slip in: it computes in float32 whatever it is given."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(inputs.float())


@pytest.mark.parametrize(
    ("weights", "autocast", "result"),
    [
        (torch.float32, False, torch.float32),
        (torch.float32, True, torch.bfloat16),
        (torch.bfloat16, False, torch.bfloat16),
    ],
)
def test_products_count_by_their_types(weights: torch.dtype, autocast: bool, result: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)).to(weights)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), watched_products(model) as found:
        model(torch.ones(3, 8, dtype=weights))
    expected: Counter[Any] = Counter()
    for activation, operations in ((weights, 2 * 3 * 8 * 4), (result, 2 * 3 * 4 * 2)):
        expected[weights, activation, result] += operations
    assert found.operations == expected
    assert not found.unwatched
    assert found.share(result) == 1.0
    assert (found.warning(bf16=True) is None) == (result == torch.bfloat16)
    assert not model[0]._forward_hooks


def test_a_layer_that_casts_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 8), CastsItsInput(8, 64))
    with torch.autocast("cpu", torch.bfloat16), watched_products(model) as found:
        model(torch.ones(3, 8))
    assert found.largest[torch.float32] == (2 * 3 * 64 * 8, "1")
    assert "89% of the first step's products" in str(found.warning(bf16=True))
    assert found.warning(bf16=False) is None
    found.unwatched_weights = 0.6  # too little was watched to say it of the step
    assert found.warning(bf16=True) is None
    found.unwatched_weights = 0.0
    told = found.describe(CPU)
    assert "88.9% in float32 (parameter float32, activation bfloat16)" in told
    assert "11.1% in bfloat16 (parameter float32, activation float32); accumulated in float32" in told


def test_a_convolution_counts_its_kernel() -> None:
    model = nn.Conv2d(3, 5, kernel_size=2, stride=2, bias=False)
    with watched_products(model) as found:
        model(torch.ones(1, 3, 8, 8))
    assert found.operations.total() == 2 * (5 * 4 * 4) * (3 * 2 * 2)


def test_what_is_not_called_by_itself_is_named() -> None:
    used, fused = nn.Linear(4, 4, bias=False), nn.Linear(4, 12, bias=False)
    model = nn.ModuleDict({"used": used, "fused": fused})
    with watched_products(model) as found:
        used(torch.ones(2, 4) + (torch.ones(2, 4) @ fused.weight.T).sum())
    assert found.unwatched == ["fused"]
    assert found.unwatched_weights == 0.75
    line = found.describe(CPU)
    assert line.startswith("The first step's products could not be watched. Not watched: 1 layers with 75% of the weig")
    found.unwatched_weights = 0.5
    assert found.describe(CPU).startswith("Products of the first step: 100.0% in float32")
    with watched_products(model) as found:
        pass
    assert found.describe(CPU).startswith("The first step's products could not be watched. Not watched: 2 layers")


def test_fused_and_compiled_layers_are_never_silent(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwatched(name: str, **settings: Any) -> int:
        (line,) = messages_of(model, processor, examples, tmp_path / name, **settings)
        assert line.startswith(("Products of the first step: ", "The first step's products could not be watched."))
        found = re.search(r"Not watched: (\d+) layers", line)
        return int(found[1]) if found else 0

    assert unwatched("fused", fused="on") > unwatched("plain", fused="off")
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    (line,) = messages_of(model, processor, examples, tmp_path / "compiled", compile=True)
    assert "not watched, since train.compile" in line


def messages_of(model: Any, processor: Any, examples: ExampleSet, out: Path, **train: Any) -> list[str]:
    """What a short training says of its products."""
    said: list[str] = []
    settings = recipe(**{"steps": 2, "fused": "off", **train})
    fit(model, processor, examples, None, settings, out, Recorder(), notify=said.append)
    return said


@pytest.mark.parametrize("bf16", [False, True])
def test_the_types_are_printed_once(
    bf16: bool, model: Any, processor: Any, examples: ExampleSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = messages_of(model, processor, examples, tmp_path, bf16=bf16)
    assert line.startswith("Products of the first step: ")
    assert ("% in bfloat16 (parameter float32, activation " in line) == bf16
    assert not [one for one in caplog.messages if "although bfloat16 was asked for" in one]


def test_a_planted_cast_is_warned_of(
    model: Any, processor: Any, examples: ExampleSet, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole: Any = nn.Linear.forward

    def without_autocast(self: nn.Linear, inputs: torch.Tensor) -> Any:
        with torch.autocast("cpu", enabled=False):
            return whole(self, inputs.float())

    monkeypatch.setattr(nn.Linear, "forward", without_autocast)
    messages_of(model, processor, examples, tmp_path, bf16=True)
    (warning,) = [one for one in caplog.messages if "although bfloat16 was asked for" in one]
    assert "products are taken in float32 (most in " in warning
