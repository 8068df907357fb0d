"""The same numbers on the card: 20 steps of the reduced model against a CPU's recorded curve, and resume equality."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gpu.device import Device, find_device
from gpu.model import SIZES, make_config, make_model, make_processor
from gpu.record import Figures
from gpu.session import Session
from gpu.training import PIXELS, Batch, Step, Variant, collated, layers_of, make_examples
from phisight.core.recipe import recipe_from
from phisight.core.run_folder import BEST
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.trainable.methods import apply_method

PART = "equality"
STEPS = 20
CURVES = Path(__file__).parents[1] / "cpu_curves.json"
"""Losses recorded on a CPU in float32 by ``python -m gpu --record-curves``."""
METHODS = ("full", "lora")
BOUNDS = {"float32": (1e-3, 3e-4), "bf16": (2e-2, 5e-3)}
"""Largest and mean relative distance from the recorded curve that are accepted."""


def run(session: Session) -> None:
    """Curves of both methods in both types, then resume."""
    for method in METHODS:
        for name in BOUNDS:

            def compared(method: str = method, name: str = name) -> Figures:
                return against_recorded(session.device, method, name)

            session.record.attempt(PART, f"{STEPS} steps, {method}, {name}", session.needs(4), compared)
    session.record.attempt(PART, "resume", session.needs(30), resumed)


def curve(device: Device, method: str, *, bf16: bool) -> list[float]:
    """Losses of the reduced model from the same weights over the same examples."""
    size = SIZES["reduced"]
    processor = make_processor(size)
    model = make_model(make_config(size, processor), torch.device("cpu"), torch.float32)
    train = TrainSettings.model_validate({"method": method, "bf16": bf16})
    torch.manual_seed(1)
    model = apply_method(model, train, LoraSettings()).to(device.torch_device)
    model.train()
    examples = make_examples(size, processor, [1, 2, 2, 1], PIXELS)
    batches = [collated(examples[start : start + 2], processor, packed=False, pin=False) for start in (0, 2)]

    def again() -> Iterator[Batch]:
        return iter(batches)

    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=2e-3)
    step = Step(model, device, again, plain=False, optimizer=optimizer, bf16=bf16)
    losses = []
    with layers_of(model, Variant("ours")):
        for _ in range(STEPS):
            step()
            losses.append(step.loss)
    return losses


def record_curves() -> None:
    """Write the curves of this machine's CPU, which others are compared with."""
    curves = {method: curve(Device(), method, bf16=False) for method in METHODS}
    CURVES.write_text(json.dumps({"torch": torch.__version__, **curves}, indent=1) + "\n", encoding="utf-8")


def against_recorded(device: Device, method: str, name: str) -> Figures:
    """Distance of the device's curve from the recorded one."""
    expected = json.loads(CURVES.read_text(encoding="utf-8"))[method]
    found = curve(device, method, bf16=name == "bf16")
    apart = [(mine - theirs) / theirs for mine, theirs in zip(found, expected, strict=True)]
    largest, mean = max(map(abs, apart)), abs(sum(apart)) / len(apart)
    most, most_mean = BOUNDS[name]
    return {
        "largest_relative": largest,
        "mean_relative": mean,
        "first_and_last": f"{found[0]:.5f} to {found[-1]:.5f}",
        "recorded": f"{expected[0]:.5f} to {expected[-1]:.5f}",
        "within_bounds": largest <= most and mean <= most_mean,
    }


class _StopsAt:
    """A progress listener that breaks off at a step, as a fault would."""

    def __init__(self, step: int | None) -> None:
        self._step = step

    def begin(self, steps: int) -> None:
        """Training starts."""

    def step(self, step: int) -> None:
        """A step is done."""
        if step == self._step:
            raise InterruptedError(f"broken off at step {step}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures of a step."""


def resumed() -> Figures:
    """A run that was broken off and resumed against one that was not, through ``phisight.workflows.train``.

    Two runs that nobody breaks off say what the device's own arithmetic makes of the same run.
    """
    from phisight.sample.catalogue.presets import preset
    from phisight.sample.draw_catalogue import make

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(24, folder / "data", seed=0, settings=preset("demo"), workers=1)
        once, twice, broken = (_trained(folder, name, stop) for name, stop in (("a", None), ("b", None), ("c", 4)))
        return {
            "tensors": len(once),
            "bit_equal": _distance(once, broken) == 0.0,
            "largest_difference": _distance(once, broken),
            "largest_difference_of_two_whole_runs": _distance(once, twice),
            "device": find_device().name,
        }


def _trained(folder: Path, name: str, stop: int | None) -> dict[str, Any]:
    from phisight.workflows.train import train

    recipe = recipe_from(
        {
            "out": str(folder / name),
            "model": {"name": "tiny"},
            "data": {"path": str(folder / "data"), "feature_cache_gb": 0},
            "train": {"method": "full", "steps": 6, "batch_size": 4, "save_every": 3, "log_every": 1},
        }
    )
    try:
        train(recipe, progress=_StopsAt(stop))
    except InterruptedError:
        train(recipe, progress=_StopsAt(None), resume=True)
    else:
        assert stop is None, "the run was to be broken off"
    return {
        f"{path.name}:{key}": value
        for path in sorted((folder / name / BEST).glob("*.safetensors"))
        for key, value in load_file(path).items()
    }


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    assert one.keys() == other.keys(), "the two runs left other tensors behind"
    return max(float((value.float() - other[name].float()).abs().max()) for name, value in one.items())
