"""A short run of the training loop, and a progress callback that remembers what it was given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phisight.core.recipe import recipe_from
from phisight.core.settings import LoraSettings, Recipe
from phisight.train.examples.dataset import ExampleSet
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method


class Recorder:
    """A progress callback that collects steps, losses, padding shares and data-loading times."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.steps: list[int] = []
        self.padding: list[float] = []
        self.data_wait: list[float] = []
        self.planned = 0

    def begin(self, steps: int) -> None:
        self.planned = steps

    def step(self, step: int) -> None:
        self.steps.append(step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:
            self.losses.append(metrics["loss"])
            self.padding.append(metrics["padding"])
            self.data_wait.append(metrics["data_wait"])


def recipe(**train: Any) -> Recipe:
    defaults = {
        "method": "full",
        "train_tower": True,
        "steps": 8,
        "batch_size": 6,
        "learning_rate": 3e-3,
        "log_every": 1,
    }
    return recipe_from({"train": {**defaults, "warmup": 0.0, **train}})


def run(model: Any, processor: Any, examples: ExampleSet, tmp_path: Path, **train: Any) -> tuple[Any, Recorder]:
    settings, recorder = recipe(**train), Recorder()
    model = apply_method(model, settings.train, LoraSettings(rank=2))
    fit(model, processor, examples, None, settings, tmp_path, recorder)
    return model, recorder
