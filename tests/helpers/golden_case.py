"""One golden case: prompts with images, and what the reference computed from them.

The official cases (``official.py``) and our own small ones (``tests/golden``) have the same form, so one comparison
serves both. Names of tensors follow the reference: ``positions`` and ``vocab_ids`` index ``logits``, ``hidden_norm``
and ``inputs_embeds``; ``argmax``, ``logsumexp`` and ``top2_gap`` hold every position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """One row of a batch."""

    text: str
    images: list[Image.Image] = field(default_factory=list)


@dataclass(frozen=True)
class GoldenCase:
    """Inputs and expected values; ``tensors`` may lack what a case does not store."""

    id: str
    prompts: list[Prompt]
    num_crops: int
    tensors: dict[str, Tensor]
    loss: float
    pad_side: str | None = None
    grad_norm_names: list[str] = field(default_factory=list)
    grad_none_names: list[str] = field(default_factory=list)

    @property
    def has_images(self) -> bool:
        """Whether any row has an image."""
        return any(prompt.images for prompt in self.prompts)

    @property
    def has_gradients(self) -> bool:
        """Whether gradients are stored."""
        return "grad_norms" in self.tensors

    def encode(self, processor: Any) -> dict[str, Tensor]:
        """What the processor makes of the prompts: a padded batch."""
        processor.tokenizer.padding_side = self.pad_side or "right"
        images = [prompt.images for prompt in self.prompts]
        batch = processor(
            text=[prompt.text for prompt in self.prompts],
            images=images if self.has_images else None,
            padding=True,
            return_tensors="pt",
            num_crops=self.num_crops,
        )
        return dict(batch)

    def placeholders(self, image_token_id: int) -> Tensor:
        """The stored ids with our placeholder where the official ones are negative."""
        ids = self.tensors["input_ids"]
        return torch.where(ids < 0, image_token_id, ids)
