"""Answers during training: before the first step and at each evaluation, validation rows are answered and scored.

What is asked and how it is scored comes from the workflows (``ask``); here lies what makes it safe within a training
loop: one rank answers and the others learn the figures from it, and nothing that training relies on is different
afterwards - random states, which modules are in training mode, the cache setting.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState, TrainingArguments

from phisight.core.settings import TrainSettings
from phisight.train.distributed.fsdp import unsharded_head

_LOG = logging.getLogger(__name__)

Ask = Callable[[Any, int], Mapping[str, float]]
"""Called with the model (adapters active) and the step; answers rows, logs what it finds, returns figures by name."""


@dataclass(frozen=True)
class Answers:
    """Who asks, and which figure chooses the best checkpoint."""

    ask: Ask | None = None
    """None: only the loss is taken."""
    best: str = "loss"
    """``loss``, or a name among the figures."""
    higher_is_better: bool = False

    def choose(self, args: TrainingArguments) -> TrainingArguments:
        """The Trainer's arguments with the figure that chooses, where there is one."""
        if args.metric_for_best_model is not None:
            args.metric_for_best_model = f"eval_{self.best}"
            args.greater_is_better = self.higher_is_better
        return args

    def figures(self, model: Any, step: int, *, sharded: bool = False) -> dict[str, float]:
        """Figures of the model at a step, the same on every rank; a figure that is not defined is NaN.

        Only rank 0 answers, unless the weights are ``sharded`` over the ranks: then a forward pass needs all of them,
        and all answer the same rows.
        """
        if self.ask is None:
            return {}
        found: list[dict[str, float]] = [{}]
        if sharded or PartialState().is_main_process:
            with preserved_state(model), unsharded_head(model) if sharded else nullcontext():
                found = [dict(self.ask(_answering_part(model), step))]
        if not sharded:
            broadcast_object_list(found)
        if self.best != "loss":
            found[0].setdefault(self.best, float("nan"))
        return found[0]


def stops_early(train: TrainSettings) -> list[TrainerCallback]:
    """What ends a run that no longer gets better, if the recipe asks for it."""
    return [EarlyStoppingCallback(early_stopping_patience=train.patience)] if train.patience else []


def result_of(state: TrainerState, name: str) -> dict[str, float]:
    """Steps done and the best evaluation by the figure ``name``, as figures; an early end is said."""
    figures = {"steps": float(state.global_step)}
    if state.best_global_step and state.best_metric is not None:
        figures |= {"best_step": float(state.best_global_step), f"best_{name}": float(state.best_metric)}
    if state.global_step < state.max_steps:
        _LOG.warning(
            "training stopped at step %d of %d: no better %s than %.4g at step %d since then (train.patience)",
            state.global_step,
            state.max_steps,
            name,
            figures.get(f"best_{name}", float("nan")),
            state.best_global_step or 0,
        )
    return figures


@contextmanager
def preserved_state(model: Any) -> Iterator[None]:
    """Random states, modes of all modules and the cache setting are afterwards as they were before."""
    modes = [(module, module.training) for module in model.modules()]
    use_cache = getattr(model.config, "use_cache", None)
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            model.config.use_cache = use_cache
            for module, mode in modes:
                module.training = mode


def _answering_part(model: Any) -> Any:
    """The model itself below a wrapper of adapters, which stay active in it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
