"""A tiny model, its processor and a few made-up images."""

from typing import Any

import pytest
import torch

from phisight.model.tiny import tiny_config, tiny_model, tiny_processor
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from tests.helpers.training_examples import SHAPES, TASK, noise_image


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
    return ExampleSet(rows, lambda row: noise_image(row["seed"]), processor, TASK)


@pytest.fixture
def batch(examples: ExampleSet, processor: Any) -> dict[str, torch.Tensor]:
    return Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(3)])


@pytest.fixture
def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of four shapes; the last two show the images of the first two again."""
    for number, row in enumerate(rows):
        width, height = SHAPES[number % 4]
        row.update(image_width=width, image_height=height, image_sha256=f"{number % 4:064x}", seed=number % 4)
    return rows
