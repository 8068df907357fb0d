"""Pairs as batches: images once, packed as padded, the model before training, curves of micro-batches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import DataError
from phisight.core.settings import LoraSettings, PreferenceSettings
from phisight.data.dataset.preference_pairs import CHOSEN
from phisight.model.attention import attend_by_sample
from phisight.train.cache.reference_scores import ReferenceScores, fill, reference_key
from phisight.train.cache.vision_features import FeatureCache, image_embedding
from phisight.train.cache.vision_features import fill as fill_features
from phisight.train.examples.collators import Collator, PackingCollator
from phisight.train.examples.pair_set import PairCollator, PairSet, other_images
from phisight.train.examples.sampler import WithDummies
from phisight.train.loop import fit
from phisight.train.losses.preference import (
    forward_arguments,
    log_probabilities,
    predicting_positions,
    preference_loss,
    real_pairs,
)
from phisight.train.trainable.methods import apply_method
from tests.helpers.answer_pairs import pair_rows, pairs_of
from tests.helpers.short_fit import recipe

Rows = list[dict[str, Any]]


class Curves:
    """A progress callback that keeps the metrics of each step."""

    def __init__(self) -> None:
        self.lines: list[Mapping[str, float]] = []

    def begin(self, steps: int) -> None:
        pass

    def step(self, step: int) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.lines.append(metrics)

    def of(self, name: str) -> list[float]:
        return [line[name] for line in self.lines if name in line]


def padded(processor: Any) -> PairCollator:
    return PairCollator(Collator(processor.tokenizer.pad_token_id))


@torch.no_grad()
def scored(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    return log_probabilities(model(**forward_arguments(batch)).logits, batch)[0]


def with_reference(pairs: PairSet, model: Any, processor: Any, folder: Path) -> PairSet:
    key = reference_key(model, processor.image_processor, 4, bf16=False)
    scores = ReferenceScores(folder, key)
    fill(scores, model, pairs, padded(processor))
    pairs.reference = scores
    return pairs


def test_sides_share_their_image_and_score_as_if_each_brought_it(shown: Rows, processor: Any, model: Any) -> None:
    model.eval()
    pairs = pairs_of(shown, processor)
    crops: list[int] = []
    tower = image_embedding(model).img_processor
    tower.register_forward_pre_hook(lambda _module, inputs: crops.append(len(inputs[0])))
    batch = padded(processor)([pairs[index] for index in range(3)])
    together = scored(model, batch)
    shared = crops.pop()
    assert len(batch["image_sizes"]) == 6  # two images a pair, for three sides
    assert batch["image_index"].tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    collate, alone = Collator(processor.tokenizer.pad_token_id), []
    for index in range(3):
        sides = pairs[index]["sides"]
        assert "image_sizes" not in sides[1]
        own = {name: value for name, value in sides[0].items() if name not in ("input_ids", "labels")}
        for side in (sides[0], {**sides[1], **own}, sides[2]):
            one = collate([side])  # type: ignore[list-item]
            one = {**one, "sides": 1, "logits_to_keep": predicting_positions(one["labels"])}
            alone.append(float(scored(model, one)))
    assert shared < sum(crops)
    torch.testing.assert_close(together.flatten(), torch.tensor(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_other_images", [True, False])
def test_packed_pairs_score_as_padded_ones(shown: Rows, processor: Any, model: Any, with_other_images: bool) -> None:
    model.eval()
    pairs = pairs_of(shown, processor, with_other_images=with_other_images)
    some = [pairs[index] for index in range(4)]
    expected = scored(model, padded(processor)(some))
    attend_by_sample(model)
    found = scored(model, PairCollator(PackingCollator())(some))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_cached_features_score_as_pixels(shown: Rows, processor: Any, model: Any, tmp_path: Path) -> None:
    model.eval()
    pairs = pairs_of(shown, processor)
    expected = scored(model, padded(processor)([pairs[index] for index in range(3)]))
    cache = FeatureCache(tmp_path, "0" * 32)
    cache.folder.mkdir(parents=True)
    fill_features(cache, model, pairs.rows, pairs.images.pixels)
    pairs.images.features = cache
    batch = padded(processor)([pairs[index] for index in range(3)])
    assert "pixel_values" not in batch
    torch.testing.assert_close(scored(model, batch), expected, rtol=1e-4, atol=1e-4)


def test_the_other_image_is_another_product_with_another_answer(shown: Rows) -> None:
    rows = pair_rows(shown)
    found = other_images(rows, 3)
    assert found == other_images(rows, 3)
    assert all(rows[one]["group"] != row["group"] for one, row in zip(found, rows, strict=True))
    assert all(rows[one][CHOSEN] != row[CHOSEN] for one, row in zip(found, rows, strict=True))
    assert other_images(rows, 4) != found
    with pytest.raises(DataError, match=r"set preference\.image_weight to 0"):
        other_images([{**row, "group": "one"} for row in rows], 3)


def test_the_reference_is_the_model_with_adapters_off(shown: Rows, processor: Any, model: Any, tmp_path: Path) -> None:
    pairs = pairs_of(shown, processor)
    model.eval()
    expected = torch.cat([scored(model, padded(processor)([pairs[index]])) for index in range(len(pairs))])
    before = reference_key(model, processor.image_processor, 4, bf16=False)
    wrapped = apply_method(model, recipe(method="lora", train_tower=False).train, LoraSettings(rank=2))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wrapped.train()
    assert reference_key(wrapped, processor.image_processor, 4, bf16=False) == before
    with_reference(pairs, wrapped, processor, tmp_path)
    assert wrapped.training
    found = torch.stack([pairs[index]["reference"] for index in range(len(pairs))])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    moved = torch.cat([scored(wrapped.eval(), padded(processor)([pairs[index]])) for index in range(len(pairs))])
    assert not torch.allclose(moved, expected, atol=1e-2)


def test_the_reference_is_computed_once_and_anew_for_other_weights(
    shown: Rows, processor: Any, model: Any, tmp_path: Path
) -> None:
    pairs = pairs_of(shown, processor)
    key = reference_key(model, processor.image_processor, 4, bf16=False)
    scores = ReferenceScores(tmp_path, key)
    assert fill(scores, model, pairs, padded(processor)) == len(set(pairs.names)) == len(pairs)
    first = [scores.read(name).clone() for name in pairs.names]
    scores.path(pairs.names[2]).write_bytes(b"cut")
    assert fill(scores, model, pairs, padded(processor)) == 1
    assert all(torch.equal(scores.read(name), one) for name, one in zip(pairs.names, first, strict=True))
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-3
    assert reference_key(model, processor.image_processor, 4, bf16=False) != key
    assert reference_key(model, processor.image_processor, 4, bf16=True) != key


def test_a_dummy_pair_is_no_pair(shown: Rows, processor: Any) -> None:
    pairs = WithDummies(pairs_of(shown, processor))
    assert real_pairs(padded(processor)([pairs[0], pairs[-1]])) == 1
    assert real_pairs(PairCollator(PackingCollator())([pairs[-1]])) == 0


def curves(shown: Rows, processor: Any, model: Any, folder: Path, **train: Any) -> Curves:
    pairs = with_reference(pairs_of(shown, processor), model, processor, folder / "reference")
    settings, seen = recipe(objective="dpo", numbers="text", learning_rate=1e-3, **train), Curves()
    model = apply_method(model, settings.train, LoraSettings(rank=2))
    fit(model, processor, pairs, None, settings, folder, seen, loss=preference_loss(PreferenceSettings()))
    return seen


@pytest.mark.slow
def test_training_makes_the_chosen_answers_win(shown: Rows, processor: Any, model: Any, tmp_path: Path) -> None:
    seen = curves(shown, processor, model, tmp_path, steps=12)
    assert seen.of("loss")[0] == pytest.approx(3 * 0.693147, abs=1e-4)
    assert seen.of("reward_margin")[0] == pytest.approx(0, abs=1e-4)
    assert seen.of("reward_margin")[-1] > 0.1
    assert seen.of("image_reward_margin")[-1] > 0
    assert seen.of("loss")[-1] < seen.of("loss")[0] - 0.1
    assert seen.of("kl")[-1] > seen.of("kl")[0]


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"batch_size": 2, "accumulate": 3}, {"packing": True}], ids=str)
def test_a_step_is_the_same_however_it_is_divided(
    shown: Rows, processor: Any, model: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole = curves(shown, processor, model, tmp_path / "whole", steps=5)
    model.load_state_dict(start)
    divided = curves(shown, processor, model, tmp_path / "divided", steps=5, **change)
    for name in ("loss", "reward_margin", "chosen_log_probability", "kl", "grad_norm"):
        assert divided.of(name) == pytest.approx(whole.of(name), rel=2e-3, abs=2e-4), name
