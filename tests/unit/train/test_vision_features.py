"""Stored tower features: the same logits and curve as computed ones, each image once, bounded, never stale."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from phisight.core.errors import FeatureCacheError, ImagePlaceholderError
from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.cache.vision_features import FeatureCache, bytes_needed, fill, is_frozen, tower_key
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.image_check import check_images
from phisight.train.loop import fit
from phisight.train.trainable.methods import apply_method
from tests.helpers.noted_calls import noted_calls
from tests.helpers.short_fit import Recorder, recipe
from tests.helpers.training_examples import example_set


def make_room(cache: FeatureCache, rows: list[dict[str, Any]], needed: int, bound: int) -> bool:
    return cache.make_room({row["image_sha256"] for row in rows}, needed, bound)


@pytest.fixture
def stored(shown: list[dict[str, Any]], processor: Any, model: Any, tmp_path: Path) -> ExampleSet:
    examples = example_set(shown, processor)
    cache = FeatureCache(tmp_path / "features", tower_key(model, processor.image_processor, 4, bf16=False))
    assert fill(cache, model, shown, examples.pixels) == 4
    examples.features = cache
    return examples


@pytest.mark.parametrize(("room", "reads"), [("none", 6), ("the first", 5), ("all", 3)])
def test_features_are_read_once_while_there_is_room(
    room: str, reads: int, stored: ExampleSet, shown: list[dict[str, Any]], processor: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen = noted_calls(monkeypatch, FeatureCache, "read")
    size = stored[0]["image_features"][0].untyped_storage().nbytes()
    examples = example_set(shown, processor, {"none": 0, "the first": size, "all": 10**9}[room])
    examples.features = stored.features
    seen.clear()
    first, again = ([examples[index]["image_features"][0] for index in (0, 1, 2)] for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert len(seen) == reads


def test_features_take_the_room_of_pixels(stored: ExampleSet, shown: list[dict[str, Any]], processor: Any) -> None:
    pixels = example_set(shown, processor)[0]["pixel_values"][0].untyped_storage().nbytes()
    examples = example_set(shown, processor, pixels)
    assert "pixel_values" in examples[0]
    assert "pixel_values" in examples._in_memory[0].tensors
    examples.features = stored.features
    assert "image_features" in examples[0]
    assert "image_features" in examples._in_memory[0].tensors
    examples.features = None
    assert "pixel_values" in examples[0]


def collated(examples: ExampleSet, processor: Any) -> dict[str, torch.Tensor]:
    return Collator(processor.tokenizer.pad_token_id)([examples[index] for index in range(6)])


def test_logits_are_those_of_the_images(
    stored: ExampleSet, shown: list[dict[str, Any]], processor: Any, model: Any
) -> None:
    computed = collated(example_set(shown, processor), processor)
    read = collated(stored, processor)
    assert "pixel_values" not in read
    assert torch.equal(read["input_ids"], computed["input_ids"])
    assert torch.equal(read["image_sizes"], computed["image_sizes"])
    ran: list[int] = []
    model.model.vision_embed_tokens.img_processor.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        expected = model(**computed).logits
        assert ran == [1]
        torch.testing.assert_close(model(**read).logits, expected, rtol=0, atol=1e-5)
    assert ran == [1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "projector"])
def test_the_curve_is_that_of_the_images(
    method: Any, stored: ExampleSet, shown: list[dict[str, Any]], processor: Any, model: Any, tmp_path: Path
) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    settings = recipe(method=method, train_tower=False, steps=20, batch_size=3, learning_rate=1e-3)
    curves = []
    for name, examples in (("stored", stored), ("computed", example_set(shown, processor))):
        torch.manual_seed(0)
        model.load_state_dict(start)
        recorder = Recorder()
        adapted = apply_method(model, settings.train, LoraSettings(rank=2))
        fit(adapted, processor, examples, None, settings, tmp_path / name, recorder)
        curves.append(torch.tensor(recorder.losses))
        model = adapted.unload() if method == "lora" else adapted  # type: ignore[operator]
    drift = curves[0] - curves[1]
    assert len(drift) == 20
    assert curves[0][-1] < curves[0][0]
    assert drift.abs().max() < 1e-4
    assert drift.mean().abs() < 2e-5


def test_each_image_is_opened_once(stored: ExampleSet, shown: list[dict[str, Any]], model: Any) -> None:
    def never(row: Mapping[str, Any]) -> Any:
        raise AssertionError(row)

    assert stored.features is not None
    assert fill(stored.features, model, shown, never) == 0
    stored._load_image = never
    assert len(stored[5]["image_features"][0]) > 1


def test_images_together_have_the_features_of_each_alone(
    stored: ExampleSet, shown: list[dict[str, Any]], processor: Any, model: Any, tmp_path: Path
) -> None:
    assert stored.features is not None
    examples = example_set(shown, processor)
    sizes = []
    for number, row in enumerate(shown):
        alone = FeatureCache(tmp_path / str(number), "key")
        fill(alone, model, [row], examples.pixels)
        together, single = stored.features.read(row["image_sha256"]), alone.read(row["image_sha256"])
        torch.testing.assert_close(together[0], single[0], rtol=0, atol=1e-5)
        assert torch.equal(together[1], single[1])
        sizes.append(len(single[0]))
    assert len(set(sizes)) > 1, "images of one crop and of several went together"


def test_another_tower_processor_or_type_has_another_key(processor: Any, model: Any) -> None:
    def key(num_crops: int = 4, bf16: bool = False) -> str:
        return tower_key(model, processor.image_processor, num_crops, bf16=bf16)

    keys = [key(), key(num_crops=1), key(bf16=True)]
    assert key() == keys[0]
    model.lm_head.weight.data.zero_()
    assert key() == keys[0], "the head is no part of the tower"
    processor.image_processor.image_mean = [0.5, 0.5, 0.5]
    keys.append(key())
    with torch.no_grad():
        model.model.vision_embed_tokens.img_processor.vision_model.encoder.layers[0].mlp.fc1.bias[0] += 1e-3
    keys.append(key())
    model.to(torch.bfloat16)
    keys.append(key())
    assert len(set(keys)) == 6


def test_a_damaged_file_is_computed_anew_and_named_when_read(
    stored: ExampleSet, shown: list[dict[str, Any]], processor: Any, model: Any
) -> None:
    cache = stored.features
    assert cache is not None
    before = cache.read(shown[1]["image_sha256"])[0].clone()
    path = cache.path(shown[1]["image_sha256"])
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(FeatureCacheError, match=path.name):
        stored[1]
    assert fill(cache, model, shown, stored.pixels) == 1
    torch.testing.assert_close(cache.read(shown[1]["image_sha256"])[0], before)


def test_bytes_are_known_before(stored: ExampleSet, shown: list[dict[str, Any]], model: Any) -> None:
    assert stored.features is not None
    used = sum(path.stat().st_size for path in stored.features.folder.iterdir())
    expected = bytes_needed(model, shown, 4)
    assert used <= expected < used + 4 * 257


def test_the_bound_holds_for_the_whole_folder(
    stored: ExampleSet, shown: list[dict[str, Any]], model: Any, tmp_path: Path
) -> None:
    cache, needed = stored.features, bytes_needed(model, shown, 4)
    assert cache is not None
    root = cache.folder.parent
    (root / "notes").mkdir()
    for used, name in ((100, "a" * 32), (200, "b" * 32)):
        (root / name).mkdir()
        (root / name / "x.safetensors").write_bytes(bytes(1000))
        os.utime(root / name, (used, used))
    assert not make_room(cache, shown, needed, needed - 1)
    assert make_room(cache, shown, needed, needed + 2500)
    assert (root / ("a" * 32)).exists()
    assert make_room(cache, shown, needed, needed + 1500)
    assert not (root / ("a" * 32)).exists(), "the least recently used goes first"
    assert (root / ("b" * 32)).exists()
    two = shown[:2]
    assert make_room(cache, two, bytes_needed(model, two, 4), bytes_needed(model, two, 4))
    assert not (root / ("b" * 32)).exists()
    assert sorted(path.stem for path in cache.folder.iterdir()) == sorted(row["image_sha256"] for row in two)
    assert (root / "notes").exists(), "nothing else is touched"


def test_only_a_tower_at_rest_is_stored(model: Any) -> None:
    apply_method(model, TrainSettings(method="full", train_tower=True), LoraSettings())
    assert not is_frozen(model)
    apply_method(model, TrainSettings(method="full", train_tower=False), LoraSettings())
    assert is_frozen(model)
    model.config.vision_config.attention_dropout = 0.1
    assert not is_frozen(model)


def test_the_image_check_reads_stored_features(stored: ExampleSet, processor: Any, model: Any) -> None:
    assert check_images(model, collated(stored, processor)).change > 1e-4


def test_features_of_another_tower_are_refused(stored: ExampleSet, processor: Any, model: Any) -> None:
    batch = collated(stored, processor)
    with pytest.raises(ImagePlaceholderError, match="another tower"):
        model(**{**batch, "image_features": batch["image_features"][..., :-1]})
    with pytest.raises(ImagePlaceholderError, match="both given"):
        model(**batch, pixel_values=torch.zeros(1))
    with pytest.raises(ImagePlaceholderError, match="image_features is given without image_sizes"):
        model(input_ids=batch["input_ids"], image_features=batch["image_features"])


def test_answers_from_features_are_answers_from_images(
    stored: ExampleSet, shown: list[dict[str, Any]], processor: Any, model: Any
) -> None:
    answers = []
    for examples in (stored, example_set(shown, processor)):
        inputs: dict[str, Any] = Collator(processor.tokenizer.pad_token_id)([examples[1]])
        inputs.pop("labels")
        answers.append(model.generate(**inputs, max_new_tokens=5, do_sample=False))
    assert torch.equal(*answers)
