"""The medium model and its data: shares of work like the full model's, small enough for two CPU cores.

    hidden 512, 8 layers, MLP 2,048, vocabulary 4,096; tower 6 layers of 192 on crops of 336; num_crops 4

A forward pass over 757 image tokens and a short answer is 24 % vision, 72 % decoder and 4 % head (of the full model:
23, 75 and 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phisight.core.dataset_folder import HEIGHT, SHA256, WIDTH
from phisight.core.geometry import hd_grid
from phisight.core.task import Task
from phisight.model.image_processing import Phi3VImageProcessor
from phisight.model.processing import Phi3VProcessor
from phisight.model.tiny import tiny_config, tiny_model, train_tokenizer
from phisight.train.examples.dataset import ExampleSet

NUM_CROPS = 4
VOCABULARY, OFFICIAL_VOCABULARY = 4096, 32064
VISION = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 192,
}
DECODER = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
IMAGES = {"square": [(800, 800)], "mixed": [(800, 800), (1000, 400)]}
"""Widths and heights: squares fill all crops; of the mixed ones half fill two of four."""

TASK = Task(
    answer="Product: {title}, Category: {kind}, Full Price: {price}",
    fields={"title": "text", "kind": "category", "price": "number"},
)
KINDS = ("HATS", "BAGS", "SCARVES", "SHOES")


def catalogue(count: int, images: str, folder: Path) -> list[dict[str, Any]]:
    """Rows whose images, drawn from noise, lie as JPEG in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        width, height = IMAGES[images][number % len(IMAGES[images])]
        coarse = generator.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        path = folder / f"{images}-{number}.jpg"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
        rows.append(
            {
                "title": f"Vintage Check Number {number} in Red and Blue",
                "kind": KINDS[number % len(KINDS)],
                "price": 100.0 + 7 * number,
                WIDTH: width,
                HEIGHT: height,
                SHA256: f"{number:064x}",
                "path": path,
            }
        )
    return rows


def open_image(row: Mapping[str, Any]) -> Image.Image:
    """The image of a row, decoded."""
    with Image.open(row["path"]) as image:
        return image.convert("RGB")


def make_processor(rows: list[dict[str, Any]]) -> Phi3VProcessor:
    """The published crops of 336 with a small tokenizer."""
    tokenizer = train_tokenizer([TASK.prompt, *(TASK.render(row) for row in rows)], 1024)
    return Phi3VProcessor(Phi3VImageProcessor(num_crops=NUM_CROPS), tokenizer)


def make_model(processor: Phi3VProcessor, vocabulary: int = VOCABULARY) -> Any:
    """Random weights, float32; the same at every call."""
    config = tiny_config(processor.tokenizer, **DECODER, vocab_size=vocabulary, vision_config=VISION)
    config._attn_implementation = "sdpa"
    return tiny_model(config)


def make_examples(rows: list[dict[str, Any]], processor: Phi3VProcessor) -> ExampleSet:
    """phisight's examples of the rows."""
    return ExampleSet(rows, open_image, processor, TASK, num_crops=NUM_CROPS, keep_bytes=10**9)


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one example's forward pass, by part; attention is counted causal."""

    tower: float
    projector: float
    layer: float
    """One decoder layer."""
    head: float
    """At every place."""

    @property
    def decoder(self) -> float:
        """All decoder layers."""
        return self.layer * DECODER["num_hidden_layers"]

    def shares(self) -> dict[str, float]:
        """Vision, decoder and head as shares of a forward pass."""
        whole = self.tower + self.projector + self.decoder + self.head
        return {
            "vision": (self.tower + self.projector) / whole,
            "decoder": self.decoder / whole,
            "head": self.head / whole,
        }


def forward_work(row: Mapping[str, Any], tokens: int, vocabulary: int = VOCABULARY) -> Work:
    """What the arithmetic of a row asks for, whoever does it: used crops only."""
    crops = hd_grid(row[WIDTH], row[HEIGHT], NUM_CROPS, 336).tiles + 1
    wide, patches = VISION["hidden_size"], (VISION["image_size"] // VISION["patch_size"]) ** 2 + 1
    tower_layer = crops * patches * (4 * wide**2 + 2 * wide * VISION["intermediate_size"] + 2 * patches * wide)
    hidden, inner = DECODER["hidden_size"], DECODER["intermediate_size"]
    return Work(
        tower=(VISION["num_hidden_layers"] - 1) * tower_layer + crops * patches * 3 * 14**2 * wide,
        projector=tokens * (4 * wide * hidden + hidden**2),
        layer=tokens * (4 * hidden**2 + 3 * hidden * inner + tokens * hidden),
        head=tokens * hidden * vocabulary,
    )
