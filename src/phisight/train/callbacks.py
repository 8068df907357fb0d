"""Who is told how training goes, and what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

CURVES = ("loss", "eval_loss", "grad_norm", "learning_rate", "epoch", "padding", "data_wait")
"""What is logged of a step; run times and totals are in what ``fit`` returns."""


class Watcher(Protocol):
    """Told how training goes."""

    def begin(self, steps: int) -> None:
        """Training starts; ``steps`` optimiser steps are planned."""

    def step(self, step: int) -> None:
        """An optimiser step is done."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures of a step: loss, learning rate, gradient norm, validation loss."""


def passes_on(watcher: Watcher) -> TrainerCallback:
    """The Trainer's events, told to a watcher."""
    return _Watching(watcher)


class _Watching(TrainerCallback):
    """Passes the Trainer's events on to a watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.watcher.begin(state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.watcher.step(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        numbers = {key: float(value) for key, value in (logs or {}).items() if key in CURVES}
        if state.is_world_process_zero and numbers.keys() - {"epoch"}:  # the run's totals are no figures of a step
            self.watcher.log(state.global_step, numbers)
