"""A tiny model, its processor and a few made-up pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from phisight.core.task import Task
from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet

TASK = Task(
    answer="Product: {title}, Category: {kind}, Price: {price}",
    fields={"title": "text", "kind": "category", "price": "number"},
)


def picture(seed: int, size: tuple[int, int] = (120, 100)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [
        {
            "title": f"Thing {'very ' * number}long",
            "kind": ["HATS", "BAGS"][number % 2],
            "price": 10.0 + number,
            "image_width": 120,
            "image_height": 100,
            "seed": number,
        }
        for number in range(6)
    ]


@pytest.fixture
def processor(rows: list[dict[str, Any]]) -> Any:
    return tiny_processor([TASK.prompt, *(TASK.render(row) for row in rows)], vocab_size=400)


@pytest.fixture
def model(processor: Any) -> Any:
    torch.manual_seed(0)
    return tiny_model(
        tiny_config(
            processor.tokenizer,
            num_hidden_layers=2,
            hidden_size=64,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=96,
        )
    )


@pytest.fixture
def examples(rows: list[dict[str, Any]], processor: Any) -> ExampleSet:
    return ExampleSet(rows, lambda row: picture(row["seed"]), processor, TASK)


@pytest.fixture
def batch(examples: ExampleSet, processor: Any) -> dict[str, torch.Tensor]:
    return Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(3)])


SHAPES = [(120, 100), (300, 120), (100, 230), (220, 220)]


@pytest.fixture
def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of four shapes; the last two show the pictures of the first two again."""
    for number, row in enumerate(rows):
        width, height = SHAPES[number % 4]
        row.update(image_width=width, image_height=height, image_sha256=f"{number % 4:064x}", seed=number % 4)
    return rows


def example_set(rows: list[dict[str, Any]], processor: Any) -> ExampleSet:
    """Examples of such rows, of up to four crops."""

    def load(row: Mapping[str, Any]) -> Any:
        return picture(row["seed"], (row["image_width"], row["image_height"]))

    return ExampleSet(rows, load, processor, TASK, num_crops=4)
