"""Where the official code is wrong (the reference's list of known bugs), phisight does what is right.

docs/numerics.md holds the same list as a table.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

from phisight.core.errors import ImagePlaceholderError, ImageTagError
from tests.helpers import official
from tests.helpers.comparison import deviations, observe, over_the_limit, require_parity
from tests.helpers.golden_case import GoldenCase, Prompt

pytestmark = pytest.mark.skipif(not official.available(), reason=official.ABSENT)

SWAPPED = "p3_two_images_swapped_tags"
END_OF_TEXT = 32000


@pytest.mark.parametrize("attention", official.ATTENTION)
def test_images_follow_the_order_of_their_tags(attention: str) -> None:
    # The official code lays features down in the order of the list whatever the tags say. Handing phisight the list the
    # other way round gives exactly the official numbers, so its tags do decide.
    case = official.load_case(SWAPPED)
    loaded = official.load_model(SWAPPED, attention)
    assert over_the_limit(deviations(case, observe(case, *loaded)))
    (prompt,) = case.prompts
    tensors = {**case.tensors, "image_sizes": case.tensors["image_sizes"]}
    turned = GoldenCase(
        case.id, [Prompt(prompt.text, prompt.images[::-1])], case.num_crops, tensors, case.loss, case.pad_side
    )
    require_parity(turned, deviations(turned, observe(turned, *loaded)))


def test_a_tag_used_twice_is_refused_by_processor_and_model() -> None:
    case = official.load_case("p3_img_nc1_full")
    model, processor = official.load_model(case.id, "sdpa")
    image = case.prompts[0].images[0]
    with pytest.raises(ImageTagError, match=r"row 0: <\|image_1\|> stands 2 times"):
        processor(text="<|image_1|>a<|image_1|>b", images=[image])
    batch = case.encode(processor)
    twice = {**batch, "input_ids": torch.cat([batch["input_ids"]] * 2, dim=1)}
    with pytest.raises(ImagePlaceholderError, match=r"2 runs of image placeholders .* but 1 images"):
        model(input_ids=twice["input_ids"], pixel_values=batch["pixel_values"], image_sizes=batch["image_sizes"])


@pytest.mark.parametrize("special", ["p3_labels_alias", "p35_labels_alias"])
def test_ids_stay_as_they_are_and_may_serve_as_labels(special: str) -> None:
    about = next(one for one in official.entries("specials") if one["id"] == special)
    case_id = "p3_text_short" if about["model"] == "tiny-phi3v" else "p35_text_short"
    model, processor = official.load_model(case_id, "sdpa")
    images = [official.image(file) for file in about["images"]]
    batch = processor(text=about["text"], images=images, num_crops=about["num_crops"], return_tensors="pt")
    slots = batch["input_ids"] == model.config.image_token_id
    for ids in (batch["input_ids"], batch["input_ids"].masked_fill(slots, -1)):
        before = ids.clone()
        with torch.no_grad():
            first = model(**{**batch, "input_ids": ids}, labels=ids)
            again = model(**{**batch, "input_ids": ids}, labels=ids)
            right = model(**batch, labels=batch["input_ids"].masked_fill(slots, -100))
        assert torch.equal(ids, before)
        assert first.loss.item() == again.loss.item() == right.loss.item()


def test_a_run_without_cache_keeps_the_image() -> None:
    # The official Phi-3 loses the image after its first uncached token, having overwritten the ids.
    about = official.entry("p3_img_nc4_gen")
    assert about["official_generate_use_cache_False_equals_generated_nocache"] is False


def test_ids_one_past_the_vocabulary_are_refused() -> None:
    model, _ = official.load_model("p3_text_short", "eager")
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[1, model.config.vocab_size]]))


def test_the_embedding_of_end_of_text_never_learns_but_its_logit_does() -> None:
    # Kept as published: the end-of-text row is the padding row. Masks and labels come from lengths, never from its id.
    model, _ = official.load_model("p3_text_short", "eager")
    model.zero_grad()
    ids = torch.tensor([[1, 5618, END_OF_TEXT, 5618, END_OF_TEXT]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert not model.model.embed_tokens.weight.grad[END_OF_TEXT].any()
    assert model.lm_head.weight.grad[END_OF_TEXT].any()


def test_negative_ids_can_be_decoded() -> None:
    _, processor = official.load_model("p3_text_short", "eager")
    assert processor.decode([1, -1, -1, 22172], skip_special_tokens=True) == "hello"
    assert processor.batch_decode(torch.tensor([[22172, -2]])) == ["hello"]


@pytest.mark.parametrize("case_id", ["p3_text_short", "p35_text_short"])
def test_saving_writes_every_official_tensor(case_id: str, tmp_path: Path) -> None:
    model, processor = official.load_model(case_id, "eager")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert sorted(file.keys()) == sorted(official.manifest()["parameter_names"][official.entry(case_id)["model"]])


def test_a_image_without_slots_and_slots_without_a_image_are_refused() -> None:
    case = official.load_case("p3_img_nc1_full")
    model, processor = official.load_model(case.id, "sdpa")
    batch = case.encode(processor)
    with pytest.raises(ImagePlaceholderError, match=r"0 runs of image placeholders .* but 1 images"):
        model(**{**batch, "input_ids": torch.full((1, 8), 5618), "attention_mask": None})
    slots = int((case.tensors["input_ids"] < 0).sum())
    with pytest.raises(ImagePlaceholderError, match=f"{slots} image placeholders but no pixel_values"):
        model(input_ids=case.tensors["input_ids"])
    for missing in ("pixel_values", "image_sizes"):
        with pytest.raises(ImagePlaceholderError, match=missing):
            model(**{name: value for name, value in batch.items() if name != missing})


@pytest.mark.parametrize("public", [None, "eager", "sdpa"])
def test_the_published_attention_setting_does_not_win(public: str | None, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"_attn_implementation": "flash_attention_2"}
    path = official.folder("tiny-phi35v", changes, tmp_path / "checkpoint")
    assert json.loads((path / "config.json").read_text(encoding="utf-8"))["_attn_implementation"] == "flash_attention_2"
    asked = {} if public is None else {"attn_implementation": public}
    model = AutoModelForImageTextToText.from_pretrained(path, **asked)
    assert model.config._attn_implementation == (public or "sdpa")
