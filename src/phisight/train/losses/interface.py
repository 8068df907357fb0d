"""Losses handed to the training step: the count of a batch, the model's arguments, the loss of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

Batch = Mapping[str, Any]
"""What a collator returns, on the device of the model."""

COUNT = "count"
"""Key of the sums in ``Computed.figures``: what the other sums are divided by when they are logged."""


class Computed(NamedTuple):
    """What a loss makes of a micro-batch."""

    loss: Tensor
    """A scalar with its gradient."""
    figures: dict[str, Tensor]
    """Float64 sums by name, COUNT among them, which are logged beside the loss as means; empty without any."""


class Loss(NamedTuple):
    """A loss as the training step calls it.

    [Contract] The loss that ``compute`` returns is a sum over the micro-batch divided by ``divisor``, the count of all
    micro-batches and ranks of the step. So the loss of a step is the sum over its micro-batches, however the step is
    divided.
    """

    count: Callable[[Batch], int]
    """What a micro-batch adds to the divisor of its step."""
    inputs: Callable[[Batch, Tensor], dict[str, Any]]
    """(batch, divisor) to the arguments of the forward pass."""
    compute: Callable[[Any, Batch, Tensor], Computed]
    """(outputs of the forward pass, batch, divisor) to the loss and the figures beside it."""
