"""A run that was stopped and continues, against one that never stopped."""

import shutil
from pathlib import Path

import torch

from phisight.core.run_folder import BEST, CHECKPOINTS
from tests.helpers.small_run import curve, weights


def stopped_after(whole: Path, copy: Path, step: int) -> Path:
    """A copy of a finished run as it was when only the checkpoint of ``step`` stood."""
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / BEST)
    for path in (copy / CHECKPOINTS).iterdir():
        if path.name != f"checkpoint-{step}":
            shutil.rmtree(path)
    return copy


def assert_equal_runs(one: Path, other: Path) -> None:
    """Curve and best weights agree in every bit."""
    assert curve(one) == curve(other)
    again, before = weights(one), weights(other)
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], value) for name, value in before.items())
