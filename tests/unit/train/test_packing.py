"""Packed rows compute what padded ones do: logits, loss and gradients, whatever stands together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import SettingsError
from phisight.model.attention import SDPA_BY_SAMPLE, attend_by_sample
from phisight.model.loss import IGNORED
from phisight.model.rope import last_position_per_sample
from phisight.model.tiny import tiny_config, tiny_model
from phisight.train.examples.collators import Collator, PackingCollator, drop_redundant_mask
from phisight.train.examples.dataset import Example, ExampleSet
from phisight.train.examples.tokenize import encode_answer
from tests.helpers.short_fit import run
from tests.helpers.training_examples import TASK, noise_image

SHAPES = [(120, 100), (300, 120), (100, 230), (220, 220)]
SMALL = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 96}


@pytest.fixture
def shown(rows: list[dict[str, Any]], processor: Any) -> ExampleSet:
    for number, row in enumerate(rows):
        width, height = SHAPES[number % 4]
        row.update(image_width=width, image_height=height)

    def load(row: Mapping[str, Any]) -> Any:
        return noise_image(row["seed"], (row["image_width"], row["image_height"]))

    return ExampleSet(rows, load, processor, TASK, num_crops=4)


def text_only(processor: Any) -> Example:
    ids, labels = encode_answer(processor, "<|user|>\nA hat?<|end|>\n<|assistant|>\n", "Price: 12<|end|>", [])
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


def both(some: list[Example], processor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return Collator(processor.tokenizer.pad_token_id)(some), PackingCollator()(some)


def compare(model: Any, padded: dict[str, Any], packed: dict[str, Any]) -> None:
    real = padded["attention_mask"].bool()
    outcome = {}
    for name, batch in (("padded", padded), ("packed", packed)):
        model.zero_grad()
        made = model(**batch)
        made.loss.backward()
        grads = {one: value.grad.clone() for one, value in model.named_parameters() if value.grad is not None}
        outcome[name] = (made.logits.detach(), made.loss.detach(), grads)
    torch.testing.assert_close(outcome["packed"][0][0], outcome["padded"][0][real], rtol=0, atol=1e-5)
    torch.testing.assert_close(outcome["packed"][1], outcome["padded"][1], rtol=0, atol=1e-5)
    torch.testing.assert_close(outcome["packed"][2], outcome["padded"][2], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4, 5], [3, None, 0], [None, None], [None, 2]])
def test_packed_is_padded(attention: str, chosen: list[int | None], shown: ExampleSet, processor: Any) -> None:
    config = tiny_config(processor.tokenizer, num_hidden_layers=2, **SMALL)
    config._attn_implementation = attention
    model = tiny_model(config)
    padded, packed = both([text_only(processor) if one is None else shown[one] for one in chosen], processor)
    assert packed["input_ids"].shape == (1, int(padded["attention_mask"].sum()))
    attend_by_sample(model)
    assert model.config._attn_implementation == (SDPA_BY_SAMPLE if attention == "sdpa" else "eager")
    compare(model, padded, packed)


def long_model(processor: Any, **values: Any) -> Any:
    width = 16
    scaling = {
        "rope_type": "longrope",
        "long_factor": [4.0] * width,
        "short_factor": [1.0] * width,
        "factor": 2.0,
        "rope_theta": 10000.0,
    }
    return tiny_model(
        tiny_config(
            processor.tokenizer,
            num_hidden_layers=2,
            original_max_position_embeddings=100,
            rope_parameters=scaling,
            **SMALL,
            **values,
        )
    )


def test_each_sample_has_its_own_rotary_factors(shown: ExampleSet, processor: Any) -> None:
    some = [text_only(processor), shown[3], text_only(processor)]
    assert len(some[0]["input_ids"]) < 100 < len(some[1]["input_ids"])
    model = long_model(processor)
    attend_by_sample(model)
    compare(model, *both(some, processor))


def test_the_last_position_is_that_of_the_sample() -> None:
    packed = torch.tensor([[0, 1, 2, 0, 1, 0], [5, 6, 7, 8, 9, 9]])
    assert last_position_per_sample(packed).tolist() == [[2, 2, 2, 1, 1, 0], [9] * 6]


def test_labels_never_cross_a_boundary(processor: Any) -> None:
    one = text_only(processor)
    one["labels"] = one["input_ids"].clone()
    packed = PackingCollator()([one, one, one])
    length = len(one["input_ids"])
    assert (packed["labels"][0, ::length] == IGNORED).all()
    assert int((packed["labels"] != IGNORED).sum()) == 3 * (length - 1)
    assert packed["cu_seq_lens_q"].tolist() == [0, length, 2 * length, 3 * length]


def test_a_change_in_one_sample_moves_no_other(shown: ExampleSet, processor: Any, model: Any) -> None:
    attend_by_sample(model)
    some = [shown[0], shown[1], shown[2]]
    before = model(**PackingCollator()(some)).logits
    changed: Example = {**shown[1], "pixel_values": [one * 0 for one in shown[1]["pixel_values"]]}
    after = model(**PackingCollator()([some[0], changed, some[2]])).logits
    first, last = len(some[0]["input_ids"]), len(some[2]["input_ids"])
    assert torch.equal(before[:, :first], after[:, :first])
    assert torch.equal(before[:, -last:], after[:, -last:])
    assert not torch.equal(before[:, first:-last], after[:, first:-last])


@pytest.mark.slow
def test_packed_training_is_padded_training(shown: ExampleSet, processor: Any, model: Any, tmp_path: Path) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    _, padded = run(model, processor, shown, tmp_path / "padded", steps=6, batch_size=3, accumulate=2)
    model.load_state_dict(start)
    _, packed = run(model, processor, shown, tmp_path / "packed", steps=6, batch_size=3, accumulate=2, packing=True)
    torch.testing.assert_close(padded.losses, packed.losses, rtol=0, atol=1e-4)
    assert packed.losses[-1] < packed.losses[0]
    assert set(packed.padding) == {0.0}
    assert max(padded.padding) > 0


def test_a_model_that_packs_still_answers_padded_prompts(shown: ExampleSet, processor: Any, model: Any) -> None:
    inputs = dict(both([shown[0], text_only(processor)], processor)[0])
    inputs.pop("labels")
    before = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    attend_by_sample(model)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False), before)
    with pytest.raises(ValueError, match="needs sample_lengths"):
        model(input_ids=torch.tensor([[5, 6, 5, 6]]), position_ids=torch.tensor([[0, 1, 0, 1]]), use_cache=False)


def test_a_back_end_that_keeps_no_samples_apart_is_refused(model: Any) -> None:
    model.config._attn_implementation = "paged|sdpa"
    with pytest.raises(SettingsError, match=r"train.packing needs .* paged\|sdpa is not known to"):
        attend_by_sample(model)


def test_padding_on_the_right_needs_no_mask(shown: ExampleSet, processor: Any) -> None:
    padded, _ = both([shown[0], shown[3], text_only(processor)], processor)
    model = tiny_model(tiny_config(processor.tokenizer, num_hidden_layers=2, **SMALL))
    bare = drop_redundant_mask(padded, model.config)
    assert "attention_mask" not in bare
    real = padded["attention_mask"].bool()
    with torch.no_grad():
        torch.testing.assert_close(model(**bare).logits[real], model(**padded).logits[real], rtol=0, atol=1e-5)
    assert "attention_mask" in drop_redundant_mask(padded, long_model(processor).config)
    model.config._attn_implementation = "flash_attention_2"
    assert "attention_mask" in drop_redundant_mask(padded, model.config)
