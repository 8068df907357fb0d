"""Prompts to ids, chat templates and the plain tokenizer, for both models' tokenizer files."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from phisight.core.errors import ElongatedImageError, ImageError, ImageTagError, TruncationError
from tests.helpers import official

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)

FOLDERS = ("tiny-phi3v", "tiny-phi35v", "official/phi-3-vision-128k-instruct", "official/phi-3.5-vision-instruct")
PLACEHOLDER = 32044


@functools.cache
def load_processor(folder: str) -> Any:
    return AutoProcessor.from_pretrained(official.REFERENCE / folder, trust_remote_code=False)


@pytest.fixture(params=FOLDERS if official.available() else [])
def processor(request: pytest.FixtureRequest) -> Any:
    return load_processor(request.param)


def runs(ids: list[int]) -> list[list[int]]:
    """Run-length coding: [[id, count], ...]."""
    coded: list[list[int]] = []
    for one in ids:
        if coded and coded[-1][0] == one:
            coded[-1][1] += 1
        else:
            coded.append([one, 1])
    return coded


def with_placeholders(coded: list[list[int]]) -> list[list[int]]:
    """The official negative ids written as phisight's placeholder."""
    return [[PLACEHOLDER if token < 0 else token, count] for token, count in coded]


@pytest.mark.parametrize("number", range(len(official.entries("prompts"))))
def test_prompts(processor: Any, number: int) -> None:
    about = official.entries("prompts")[number]
    counts = about["num_img_tokens"]
    if counts is None:
        ids = processor(text=about["text"])["input_ids"][0] if "<|image_" not in about["text"] else None
        ids = ids or processor.tokenizer(about["text"])["input_ids"]
    else:
        # The recorded counts are by image; a text names its images in any order.
        tags = [int(part.split("|>")[0]) for part in about["text"].split("<|image_")[1:]]
        ids = processor.encode(about["text"], [counts[tag - 1] for tag in tags])
    assert runs(ids) == with_placeholders(about["input_ids_rle"])


@pytest.mark.parametrize("about", official.entries("prompt_errors"), ids=lambda about: about["text"][9:30])
def test_prompts_that_are_refused(processor: Any, about: dict[str, Any]) -> None:
    images = [Image.new("RGB", (40, 30)) for _ in about["num_img_tokens"]]
    with pytest.raises(ImageTagError):
        processor(text=about["text"], images=images)


@pytest.mark.parametrize("about", official.entries("chat"))
def test_chat_template(processor: Any, about: dict[str, Any]) -> None:
    text = processor.apply_chat_template(
        about["messages"], add_generation_prompt=about["add_generation_prompt"], tokenize=False
    )
    assert text == about["text"]


@pytest.mark.parametrize("about", official.entries("tokenizer"), ids=lambda about: repr(about["text"])[:30])
def test_tokenizer(processor: Any, about: dict[str, Any]) -> None:
    tokenizer = processor.tokenizer
    assert tokenizer(about["text"])["input_ids"] == about["ids"]
    assert tokenizer(about["text"], add_special_tokens=False)["input_ids"] == about["ids_no_special"]
    assert tokenizer.decode(about["ids"]) == about["decoded"]
    assert tokenizer.decode(about["ids"], skip_special_tokens=True) == about["decoded_skip_special"]


def test_what_the_official_processor_does_with_unusual_input(processor: Any) -> None:
    """Each of the recorded calls; docs/numerics.md lists where phisight differs on purpose."""
    image = Image.new("RGB", (50, 50))
    with pytest.raises(ImageError, match=r"not Tensor of shape \(3, 20, 30\)"):
        processor(text="<|image_1|>", images=torch.zeros(3, 20, 30))
    array = np.full((20, 30, 3), 7, dtype=np.uint8)
    as_array = processor.image_processor(array)["pixel_values"]
    assert torch.equal(as_array, processor.image_processor(Image.fromarray(array))["pixel_values"])

    pair = processor(text=["<|image_1|>a", "<|image_1|>b"], images=[[image], [image]], padding=True)
    assert len(pair["input_ids"]) == 2
    plain = processor(text=["a b c", "a"], padding=True)
    assert plain["input_ids"] == [[1, 263, 289, 274], [1, 263, 32000, 32000]]
    with pytest.raises(TruncationError):
        processor(text="<|image_1|>", images=image, truncation=True, max_length=8)
    assert processor(text="a", images=[])["input_ids"] == [[1, 263]]
    with pytest.raises(ElongatedImageError):
        processor(text="<|image_1|>", images=Image.new("RGB", (6000, 1)), num_crops=16)
