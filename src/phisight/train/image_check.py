"""Image check before the first step: does another image change the loss?

A training loop that turns the image tag into plain text, drops the pixels or detaches the features trains a text model,
and its loss falls all the same. Here the loss of a few examples is computed with their own images, with each other's
and with blank ones (zeros for cached tower features); without a difference, training ends before it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phisight.core.errors import ImageCheckError
from phisight.train.distributed.placement import on_device

SMALLEST_CHANGE = 1e-6
"""Relative change of the loss below which the model is considered blind (float32 rounding is about 1e-7)."""


@dataclass(frozen=True)
class ImageCheck:
    """Loss with the real, the exchanged and the blank images."""

    real: float
    exchanged: float
    blank: float

    @property
    def change(self) -> float:
        """Largest relative change of the loss."""
        return max(abs(self.real - self.exchanged), abs(self.real - self.blank)) / max(abs(self.real), 1e-12)


@torch.no_grad()
def check_images(model: Any, batch: Mapping[str, Tensor]) -> ImageCheck:
    """Compare the losses of one collated batch; ImageCheckError when the images do not matter."""
    training = model.training
    model.eval()
    try:
        inputs = on_device(next(model.parameters()).device, batch)
        if not bool((inputs["labels"] != -100).any()):
            raise ImageCheckError("no token of the first batch is trained; is the answer template empty?")
        name = "image_features" if "image_features" in inputs else "pixel_values"
        pixels = inputs[name]
        # Pixels are exchanged, sizes are not: placeholders and features must still match.
        exchanged = pixels.roll(1, dims=0) if len(pixels) > 1 else pixels.flip(-1)
        losses = [
            float(model(**{**inputs, name: one}, skip_logits=True).loss) for one in (pixels, exchanged, pixels * 0)
        ]
    finally:
        model.train(training)
    check = ImageCheck(*losses)
    if check.change < SMALLEST_CHANGE:
        raise ImageCheckError(
            f"another image does not change the loss (real {check.real:.6f}, exchanged {check.exchanged:.6f}, blank "
            f"{check.blank:.6f}): the model would learn from text alone; does the prompt keep its image tag?"
        )
    return check
