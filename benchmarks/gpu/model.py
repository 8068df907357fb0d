"""The model that is measured: random weights in the official shapes, made on the device, and a small one for CPUs.

    official   the shapes of microsoft/Phi-3.5-vision-instruct: 4,146,621,440 parameters, vocabulary 32,064
    reduced    the same classes, a few million parameters

The tokenizer is trained on the benchmark's own texts, so every id is one of the vocabulary and nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from phisight.core.geometry import CROP_SIZE, PIXELS_PER_TOKEN, grid_tokens
from phisight.core.task import Task
from phisight.model.configuration import VIT_L_14_336, Phi3VConfig
from phisight.model.image_processing import Phi3VImageProcessor
from phisight.model.processing import Phi3VProcessor
from phisight.model.tiny import tiny_config, train_tokenizer

TASK = Task(
    answer="Product: {title}, Category: {kind}, Full Price: {price}",
    fields={"title": "text", "kind": "category", "price": "number"},
)
ROW = {"title": "Vintage Check Cashmere Scarf in Archive Beige", "kind": "SCARVES", "price": 470.0}
OFFICIAL: dict[str, Any] = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "sliding_window": 131072,
    "vision_config": VIT_L_14_336,
}
REDUCED: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "sliding_window": 131072,
    "vision_config": {
        **VIT_L_14_336,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 112,
        "projection_dim": 32,
    },
}


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    name: str
    shapes: dict[str, Any]
    grids: tuple[int, int]
    """Tiles a side of the two kinds of examples: 2 and 4 give 757 and 2,509 image tokens of crops of 336."""
    new_tokens: int
    batches: tuple[int, ...]
    """Answers generated at once."""
    matrix: int
    """Side of the matrix product."""

    @property
    def crop_size(self) -> int:
        """Pixels of a crop's side."""
        return int(self.shapes["vision_config"].get("image_size", CROP_SIZE))

    def image_tokens(self, grid: int) -> int:
        """Image tokens of ``grid`` x ``grid`` tiles and the thumbnail."""
        return grid_tokens(grid, grid, self.crop_size)

    def features_shape(self, grid: int) -> tuple[int, ...]:
        """Shape of an image's features: [crops, n, n, 4V]."""
        side = self.crop_size // PIXELS_PER_TOKEN
        return grid * grid + 1, side, side, 4 * int(self.shapes["vision_config"]["hidden_size"])


SIZES = {
    "official": Size("official", OFFICIAL, (2, 4), 64, (1, 8, 32), 8192),
    "reduced": Size("reduced", REDUCED, (1, 2), 4, (1, 2), 64),
}


def make_processor(size: Size) -> Phi3VProcessor:
    """The official processing of images with a tokenizer of the benchmark's own."""
    tokenizer = train_tokenizer([TASK.prompt, TASK.render(ROW)], 512)
    tokenizer.model_max_length = size.shapes["max_position_embeddings"]
    return Phi3VProcessor(Phi3VImageProcessor(num_crops=size.grids[0] ** 2, crop_size=size.crop_size), tokenizer)


def make_config(size: Size, processor: Phi3VProcessor) -> Phi3VConfig:
    """Official shapes with the tokenizer's ids; two sets of rotary factors, as published models have them."""
    half = size.shapes["hidden_size"] // size.shapes["num_attention_heads"] // 2
    grow = [1.0 + 63.0 * place / (half - 1) for place in range(half)]
    scaling = {"type": "su", "short_factor": [1.0 + factor / 8 for factor in grow], "long_factor": grow}
    config = tiny_config(processor.tokenizer, **size.shapes, rope_scaling=scaling)
    config._attn_implementation = "sdpa"
    return config


def make_model(config: Phi3VConfig, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The model with random weights, made on the device itself."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    return model.to(device).requires_grad_(False)
