"""Greedy answers: with and without cache, in batches, across the rotary switch, with beams; where they end."""

from typing import Any

import pytest
import torch
from torch import Tensor

from phisight.model import Phi3VisionForConditionalGeneration, Phi3VProcessor
from tests.helpers import small_model

Model = Phi3VisionForConditionalGeneration
LONG = "word " * 15
NO_END: dict[str, Any] = {"eos_token_id": None, "do_sample": False}


def answers(model: Model, batch: dict[str, Tensor], **options: Any) -> list[list[int]]:
    """New tokens of each row."""
    made = model.generate(**batch, **{**NO_END, **options})
    found: list[list[int]] = made[:, batch["input_ids"].shape[1] :].tolist()
    return found


@pytest.fixture
def rows() -> list[tuple[str, list[Any]]]:
    """Texts with their images: of unequal length, with none, one and two images."""
    return [
        ("<|image_1|>What?", [small_model.image(1, 160, 100)]),
        ("no image", []),
        ("<|image_1|>and<|image_2|>", [small_model.image(2, 40, 40), small_model.image(3, 50, 120)]),
        (LONG, []),
    ]


def encode(processor: Phi3VProcessor, rows: list[tuple[str, list[Any]]]) -> dict[str, Tensor]:
    processor.tokenizer.padding_side = "left"
    images = [images for _, images in rows]
    return dict(
        processor(
            text=[text for text, _ in rows],
            images=images if any(images) else None,
            padding=True,
            return_tensors="pt",
        )
    )


def test_a_left_padded_batch_equals_rows_alone(
    model: Model, processor: Phi3VProcessor, rows: list[tuple[str, list[Any]]]
) -> None:
    together = answers(model, encode(processor, rows), max_new_tokens=30)
    alone = [answers(model, encode(processor, [row]), max_new_tokens=30)[0] for row in rows]
    assert together == alone
    lengths = encode(processor, rows)["attention_mask"].sum(1).tolist()
    assert sum(length <= small_model.ORIGINAL_LENGTH < length + 30 for length in lengths) == 2, (
        "two rows cross the switch"
    )


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("chosen", [[3], [0, 3], [0, 1, 2, 3]])
def test_crossing_the_switch_equals_a_run_without_cache(
    processor: Phi3VProcessor, rows: list[tuple[str, list[Any]]], chosen: list[int], cache: str, attention: str
) -> None:
    model = small_model.model(attention=attention)
    batch = encode(processor, [rows[number] for number in chosen])
    uncached = answers(model, batch, max_new_tokens=30, use_cache=False)
    cached = answers(model, batch, max_new_tokens=30, cache_implementation=cache)
    assert cached == uncached


def test_a_image_row_crosses_the_switch(processor: Phi3VProcessor) -> None:
    model = small_model.model(original_max_position_embeddings=48)
    batch = encode(processor, [("<|image_1|>", [small_model.image(1, 160, 100)])])
    assert batch["input_ids"].shape[1] < 48
    uncached = answers(model, batch, max_new_tokens=24, use_cache=False)
    assert answers(model, batch, max_new_tokens=24) == uncached
    assert answers(model, batch, max_new_tokens=24, cache_implementation="static") == uncached
    other = {**batch, "pixel_values": batch["pixel_values"].flip(-1)}
    assert answers(model, other, max_new_tokens=24) != uncached, "the image counts"


def test_the_cache_is_used(model: Model, processor: Phi3VProcessor) -> None:
    seen: list[int] = []
    model.model.layers[0].register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[1]))
    batch = encode(processor, [(LONG, [])])
    start = batch["input_ids"].shape[1]
    answers(model, batch, max_new_tokens=30)
    again = small_model.ORIGINAL_LENGTH + 1
    assert seen[0] == start
    assert [step for step in seen[1:] if step != 1] == [again], "the prefix is computed once more, at the switch"


def test_the_tower_runs_once(model: Model, processor: Phi3VProcessor) -> None:
    ran = []
    model.model.vision_embed_tokens.register_forward_hook(lambda *_args: ran.append(1))
    answers(model, encode(processor, [("<|image_1|>", [small_model.image(1, 40, 40)])]), max_new_tokens=10)
    assert len(ran) == 1


@pytest.mark.parametrize("images", [True, False])
def test_beams_equal_beams_without_cache(
    model: Model, processor: Phi3VProcessor, rows: list[tuple[str, list[Any]]], images: bool
) -> None:
    batch = encode(processor, [rows[0]] if images else [rows[3]])
    with_cache = answers(model, batch, max_new_tokens=26, num_beams=3)
    assert with_cache == answers(model, batch, max_new_tokens=26, num_beams=3, use_cache=False)


def test_beams_over_a_batch_with_one_image_a_row(model: Model, processor: Phi3VProcessor) -> None:
    rows = [("<|image_1|>a", [small_model.image(1, 160, 100)]), ("<|image_1|>bcd", [small_model.image(2, 40, 40)])]
    together = answers(model, encode(processor, rows), max_new_tokens=8, num_beams=2)
    alone = [answers(model, encode(processor, [row]), max_new_tokens=8, num_beams=2)[0] for row in rows]
    assert together == alone


@pytest.mark.parametrize("end", ["<|end|>", "<|endoftext|>", "</s>"])
def test_answers_end_where_a_turn_ends(model: Model, processor: Phi3VProcessor, end: str) -> None:
    token = processor.tokenizer.convert_tokens_to_ids(end)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.norm.register_forward_hook(lambda _module, _args, out: torch.ones_like(out))
        model.lm_head.weight[token] = 1.0
    batch = encode(processor, [("a", [])])
    made = model.generate(**batch, max_new_tokens=5, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert made.tolist() == [token]


def test_the_image_placeholder_is_never_written(model: Model, processor: Phi3VProcessor) -> None:
    token = model.config.image_token_id
    with torch.no_grad():
        model.model.norm.register_forward_hook(lambda _module, _args, out: torch.ones_like(out))
        model.lm_head.weight.zero_()
        model.lm_head.weight[token], model.lm_head.weight[7] = 2.0, 1.0
    batch = encode(processor, [("a", [])])
    made = model.generate(**batch, max_new_tokens=4, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert made.tolist() == [7] * 4


def test_how_generation_ends_is_saved_with_the_model(model: Model) -> None:
    generation = model.generation_config
    assert generation.eos_token_id == sorted([2, small_model.IDS["<|end|>"], small_model.IDS["<|endoftext|>"]])
    assert generation.pad_token_id == small_model.IDS["<|endoftext|>"]
    assert generation.suppress_tokens == [small_model.IDS["<|image|>"]]


def test_sampling_runs(model: Model, processor: Phi3VProcessor) -> None:
    torch.manual_seed(0)
    batch = encode(processor, [("<|image_1|>", [small_model.image(1, 40, 40)])])
    assert len(answers(model, batch, max_new_tokens=6, do_sample=True, num_return_sequences=2)) == 2
