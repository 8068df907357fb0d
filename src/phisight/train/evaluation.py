"""Evaluation during training: validation loss, generated answers, the best evaluation and early stopping.

    each rank: sum of the loss over its rows' trained tokens, number of these tokens --all ranks--> sum / number

What is asked and how answers are scored comes from the workflows (``ask``). Nothing that training relies on is changed
by it: random states, training modes, the cache setting.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor

from phisight.model.attention import inside_adapters
from phisight.train.distributed.fsdp import unsharded_head
from phisight.train.distributed.process_group import gather_numbers
from phisight.train.losses.supervised import trained_tokens

_LOG = logging.getLogger(__name__)

Ask = Callable[[Any, int], Mapping[str, float]]
"""Called with the model (adapters active) and the step; answers rows, logs what it finds, returns figures by name."""


@dataclass(frozen=True)
class Answers:
    """Who answers validation rows, and which figure chooses the best checkpoint."""

    ask: Ask | None = None
    """None evaluates the loss alone."""
    best: str = "loss"
    """``loss``, or the name of a figure."""
    higher_is_better: bool = False

    def figures(self, model: Any, step: int, *, sharded: bool = False) -> dict[str, float]:
        """Figures of the model at a step, the same on every rank; an undefined figure is NaN.

        Only rank zero answers, unless the weights are ``sharded``: then a forward pass needs all ranks, and all answer
        the same rows.
        """
        if self.ask is None:
            return {}
        found: list[dict[str, float]] = [{}]
        if sharded or PartialState().is_main_process:
            with preserved_state(model), unsharded_head(model) if sharded else nullcontext():
                found = [dict(self.ask(inside_adapters(model), step))]
        if not sharded:
            broadcast_object_list(found)
        if self.best != "loss":
            found[0].setdefault(self.best, math.nan)
        return found[0]


@dataclass
class BestEvaluation:
    """The best evaluation so far by one figure, and how many evaluations have not improved on it. NaN is never best."""

    name: str
    higher_is_better: bool = False
    patience: int | None = None
    """Evaluations without improvement after which training stops; None means never."""
    value: float | None = None
    step: int | None = None
    not_improved: int = 0

    def update(self, value: float, step: int) -> None:
        """Take the evaluation of a step into account."""
        worst = -math.inf if self.higher_is_better else math.inf
        best = worst if self.value is None else self.value
        if value > best if self.higher_is_better else value < best:
            self.value, self.step, self.not_improved = value, step, 0
        else:
            self.not_improved += self.value is not None
            self.value = best

    @property
    def is_exhausted(self) -> bool:
        """Whether training should stop early."""
        return self.patience is not None and self.not_improved >= self.patience

    def figures(self) -> dict[str, float]:
        """``best_step`` and ``best_<name>``, where there is a best evaluation."""
        if not self.step or self.value is None:
            return {}
        return {"best_step": float(self.step), f"best_{self.name}": self.value}

    def warn_of_last_weights(self, step: int) -> None:
        """Say that the best evaluation has no checkpoint."""
        _LOG.warning(
            "the best %s was %.4g at step %d, which has no checkpoint: the weights are those of step %d; make "
            "train.save_every a multiple of train.evaluate_every to keep the best",
            self.name,
            math.nan if self.value is None else self.value,
            self.step or 0,
            step,
        )

    def warn_of_early_end(self, step: int, planned: int) -> None:
        """Say why training ended before the planned step."""
        _LOG.warning(
            "training stopped at step %d of %d: no better %s than %.4g at step %d since then (train.patience)",
            step,
            planned,
            self.name,
            math.nan if self.value is None else self.value,
            self.step or 0,
        )


@torch.no_grad()
def mean_over_tokens(batches: Iterable[Mapping[str, Any]], summed: Callable[[Mapping[str, Any]], Tensor]) -> float:
    """Mean loss of a trained token over the batches of all ranks, the same on each; called by all.

    Args:
        batches: Those of this rank, with ``labels`` int64[B, T]. Every row counts once over all ranks; a rank without
            rows computes a dummy example, since sharded weights need every rank in every forward pass.
        summed: Loss of a batch, summed over its trained tokens.

    Returns:
        NaN where no rank has a trained token.
    """
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for batch in batches:
        total = total + summed(batch).double().to(total.device)
        tokens += trained_tokens(batch)
    sums = [sum(column) for column in zip(*gather_numbers([float(total), float(tokens)]), strict=True)]
    return sums[0] / sums[1] if sums[1] else math.nan


@contextmanager
def preserved_state(model: Any) -> Iterator[None]:
    """Random states, training mode of every module and the cache setting are the same afterwards."""
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
