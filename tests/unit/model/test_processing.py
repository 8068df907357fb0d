"""Text and images to tensors and back: batches, padding, truncation, chat messages, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

from phisight.core.errors import ElongatedImageError, ImageError, ImageTagError, TruncationError
from phisight.model import Phi3VImageProcessor, Phi3VProcessor
from tests.helpers import small_model

WIDE = small_model.image(1, 160, 100)
SQUARE = small_model.image(2, 40, 40)


def test_lists_without_return_tensors(processor: Phi3VProcessor) -> None:
    batch = processor(text="<|image_1|>a", images=SQUARE)
    assert isinstance(batch["input_ids"][0], list)
    assert batch["pixel_values"].dtype == np.float32
    assert batch["image_sizes"].tolist() == [[112, 112]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(processor: Phi3VProcessor, side: str) -> None:
    processor.tokenizer.padding_side = side
    pad = processor.tokenizer.pad_token_id
    batch = processor(text=["abc", "a"], padding=True, return_tensors="pt")
    full, short = batch["input_ids"].tolist()
    assert full[0] == 1
    assert short == ([pad, pad, *short[2:]] if side == "left" else [*short[:2], pad, pad])
    assert batch["attention_mask"].tolist()[1] == ([0, 0, 1, 1] if side == "left" else [1, 1, 0, 0])
    assert processor(text="a", padding="max_length", max_length=7, return_tensors="pt")["input_ids"].shape == (1, 7)
    assert processor(text="a", padding="do_not_pad")["input_ids"] == processor(text="a")["input_ids"]


def test_the_mask_comes_from_lengths(processor: Phi3VProcessor) -> None:
    batch = processor(text=["a<|endoftext|>", "abcdef"], padding=True, return_tensors="pt")
    assert batch["attention_mask"].sum(1).tolist() == [3, 7], "an end of text in the text is no padding"


def test_a_flat_list_is_dealt_out_by_tags(processor: Phi3VProcessor) -> None:
    texts = ["<|image_1|>a", "b", "<|image_1|><|image_2|>"]
    flat = processor(text=texts, images=[WIDE, SQUARE, WIDE], padding=True, return_tensors="pt")
    nested = processor(text=texts, images=[[WIDE], None, [SQUARE, WIDE]], padding=True, return_tensors="pt")
    assert flat.keys() == nested.keys()
    assert all(torch.equal(flat[key], nested[key]) for key in flat)


def test_images_stand_in_the_order_of_their_tags(processor: Phi3VProcessor) -> None:
    turned = processor(text="<|image_2|>a<|image_1|>", images=[WIDE, SQUARE], return_tensors="pt")
    straight = processor(text="<|image_1|>a<|image_2|>", images=[SQUARE, WIDE], return_tensors="pt")
    assert all(torch.equal(turned[key], straight[key]) for key in turned)


def test_truncation_cuts_text(processor: Phi3VProcessor) -> None:
    full = processor(text="<|image_1|>abcdef", images=WIDE)["input_ids"][0]
    cut = processor(text="<|image_1|>abcdef", images=WIDE, truncation=True, max_length=len(full) - 3)
    assert cut["input_ids"][0] == full[:-3]
    assert len(cut["attention_mask"][0]) == len(full) - 3
    untouched = processor(text="<|image_1|>abcdef", images=WIDE, truncation=True, max_length=500)
    assert untouched["input_ids"][0] == full
    assert processor(text="a" * 600, truncation=True)["input_ids"][0].__len__() == 512, "the tokenizer's own limit"


def test_truncation_never_cuts_a_image(processor: Phi3VProcessor) -> None:
    with pytest.raises(TruncationError, match=r"row 1: a limit of 20 tokens .* reach 36 of 38 tokens.*num_crops"):
        processor(text=["abc", "<|image_1|>a"], images=[[], [WIDE]], truncation=True, max_length=20, padding=True)


def test_without_truncation_nothing_is_cut(processor: Phi3VProcessor) -> None:
    assert len(processor(text="a" * 600, max_length=10)["input_ids"][0]) == 601


@pytest.mark.parametrize(
    ("text", "images", "message"),
    [
        ("<|image_1|><|image_2|>", [WIDE], "row 0: 2 image tags but 1 images"),
        ("a", [WIDE], "row 0: 0 image tags but 1 images in 'a'"),
        ("<|image_1|>", None, "row 0: 1 image tags but 0 images"),
        ("<|image_1|>a<|image_1|>", [WIDE], r"row 0: <\|image_1\|> stands 2 times"),
        ("<|image_1|>a<|image_1|>", [WIDE, SQUARE], r"row 0: <\|image_1\|> stands 2 times"),
        ("<|image_2|>", [WIDE], r"row 0: the image tags are 2 but must be 1 to 1"),
        ("<|image_0|>", [WIDE], r"row 0: the image tags are 0 but must be 1 to 1"),
        (["<|image_1|>", "a"], [[WIDE], [SQUARE]], "row 1: 0 image tags but 1 images"),
        (["<|image_1|>", "a"], [WIDE, SQUARE], "2 texts name 1 images but 2 are given"),
        (["<|image_1|>", "a"], [[WIDE]], "2 texts but 1 lists of images"),
        ([], [], "no text given"),
        ("a<|image|>b", None, r"the text holds <\|image\|>"),
    ],
)
def test_tags_and_images_that_do_not_match(processor: Phi3VProcessor, text: Any, images: Any, message: str) -> None:
    with pytest.raises(ImageTagError, match=message) as caught:
        processor(text=text, images=images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), dtype=np.uint8),
        np.zeros((3, 4, 5), dtype=np.uint8),
        np.zeros((4, 5, 3), dtype=np.float32),
        np.zeros((4, 5, 4), dtype=np.uint8),
        torch.zeros(3, 4, 5),
        b"bytes",
        None,
    ],
    ids=lambda image: type(image).__name__,
)
def test_what_is_no_image(image: Any) -> None:
    with pytest.raises(ImageError, match="must be a PIL image or a uint8") as caught:
        Phi3VImageProcessor()(image)
    assert not hasattr(image, "shape") or str(tuple(image.shape)) in str(caught.value)


def test_an_elongated_image_is_refused(processor: Phi3VProcessor) -> None:
    with pytest.raises(ElongatedImageError, match=r"2000 x 1 pixels .* 6 crops"):
        processor(text="<|image_1|>", images=Image.new("RGB", (2000, 1)))


def test_decoding_leaves_slots_out(processor: Phi3VProcessor) -> None:
    ids = processor(text="<|image_1|>abc", images=SQUARE, return_tensors="pt")["input_ids"]
    assert processor.decode(ids[0], skip_special_tokens=True) == "abc"
    slots = ids == processor.image_token_id
    assert processor.batch_decode(ids.masked_fill(slots, -1), skip_special_tokens=True) == ["abc"]
    assert processor.decode(np.array([-1, -2]), skip_special_tokens=True) == ""
    assert processor.decode([small_model.IDS["a"], -5]) == "a"


PARTS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
PLAIN = [{"role": "user", "content": "<|image_1|>\nWhat?"}]


def test_image_parts_equal_tags_in_the_text(processor: Phi3VProcessor) -> None:
    texts = [processor.apply_chat_template(one, add_generation_prompt=True) for one in (PARTS, PLAIN)]
    assert texts[0] == texts[1] == "<|user|>\n<|image_1|>\nWhat?<|end|>\n<|assistant|>\n"


def test_image_parts_are_numbered_over_all_turns(processor: Phi3VProcessor) -> None:
    image, text = {"type": "image"}, {"type": "text", "text": "and?"}
    turns = [
        {"role": "user", "content": [image, image, text]},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": [text, image]},
    ]
    assert processor.apply_chat_template(turns) == (
        "<|user|>\n<|image_1|>\n<|image_2|>\nand?<|end|>\n<|assistant|>\nSo.<|end|>\n<|user|>\nand?<|image_3|>\n<|end|>\n"
    )


def test_messages_with_images_become_inputs(processor: Phi3VProcessor) -> None:
    message = [{"role": "user", "content": [{"type": "image", "image": WIDE}, {"type": "text", "text": "What?"}]}]
    made = processor.apply_chat_template(
        message, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    text = processor.apply_chat_template(message, add_generation_prompt=True)
    expected = processor(text=text, images=[WIDE], return_tensors="pt")
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[key], expected[key]) for key in expected)


@pytest.mark.parametrize("loader", [Phi3VProcessor, AutoProcessor])
def test_round_trip(tmp_path: Path, loader: Any) -> None:
    processor = small_model.processor(num_crops=3)
    small_model.config().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = loader.from_pretrained(tmp_path)
    assert type(again) is Phi3VProcessor
    assert (again.image_processor.num_crops, again.image_processor.crop_size) == (3, small_model.CROP)
    assert again.chat_template == processor.chat_template
    text = "<|user|>\n<|image_1|>\nWhat?<|end|>\n"
    one, other = (each(text=text, images=WIDE, return_tensors="pt") for each in (processor, again))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert AutoImageProcessor.from_pretrained(tmp_path).num_crops == 3


def test_settings_can_be_changed_while_loading(tmp_path: Path) -> None:
    small_model.config().save_pretrained(tmp_path)
    small_model.processor(num_crops=3).save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path, num_crops=2).image_processor.num_crops == 2


def test_num_crops_of_one_call(processor: Phi3VProcessor) -> None:
    one = processor(text="<|image_1|>", images=WIDE, num_crops=1, return_tensors="pt")
    same = processor(text="<|image_1|>", images=WIDE, images_kwargs={"num_crops": 1}, return_tensors="pt")
    assert one["pixel_values"].shape[1] == same["pixel_values"].shape[1] == 2
    assert processor(text="<|image_1|>", images=WIDE)["pixel_values"].shape[1] == 7


def test_an_array_equals_its_image() -> None:
    ours = Phi3VImageProcessor(num_crops=4)
    assert torch.equal(ours(np.asarray(WIDE))["pixel_values"], ours(WIDE)["pixel_values"])


def test_conversion_can_be_switched_off() -> None:
    with pytest.raises(ImageError, match="mode L"):
        Phi3VImageProcessor(do_convert_rgb=False)(WIDE.convert("L"))
