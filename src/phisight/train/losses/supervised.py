"""Supervised fine-tuning: cross-entropy over the trained tokens of the whole step, and the number head's error.

The model computes it in its forward pass (``model/loss.py``), with logits at the labeled positions only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from phisight.model.loss import IGNORED
from phisight.train.losses.interface import Batch, Computed, Loss


def trained_tokens(batch: Batch) -> int:
    """Labeled tokens of ``labels`` int64[B, T]; nothing predicts the first token of a row."""
    labels: Tensor = batch["labels"]
    return int(labels[..., 1:].ne(IGNORED).sum())


def forward_arguments(batch: Batch, divisor: Tensor) -> dict[str, Any]:
    """The batch, without logits, and the trained tokens of the step to divide by."""
    return {**batch, "skip_logits": True, "num_items_in_batch": divisor}


def loss_of_outputs(outputs: Any, _batch: Batch, _divisor: Tensor) -> Computed:
    """The loss that the model has computed; it has no figures beside itself."""
    return Computed(outputs.loss, {})


SUPERVISED = Loss(trained_tokens, forward_arguments, loss_of_outputs)
