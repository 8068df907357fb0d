"""Augmented images: of the same size, new in each epoch, the same for one seed, and only in training."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from phisight.core.errors import SettingsError
from phisight.core.recipe import recipe_from
from phisight.core.settings import Augmentation
from phisight.train.examples.augment import Augment, augmented
from phisight.train.examples.collators import Collator
from phisight.train.examples.dataset import ExampleSet
from phisight.train.examples.sampler import LengthSampler, StepBatches
from phisight.train.loader import StepLoader
from tests.helpers.images import smooth_image
from tests.helpers.training_examples import TASK, noise_image

KINDS: tuple[Augmentation, ...] = ("flip", "crop", "color")


def levels(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kinds", [[], ["flip"], ["crop"], ["color"], ["flip", "crop"], [*KINDS]], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1"])
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (40, 30)], ids=str)
def test_size_and_mode_of_what_comes_out(kinds: list[Augmentation], mode: str, size: tuple[int, int]) -> None:
    image = smooth_image(0, size).convert(mode)
    for seed in range(4):
        changed = augmented(image, kinds, seed)
        assert (changed.size, changed.mode) == (size, "RGB")
        if not kinds:
            assert (levels(changed) == levels(image.convert("RGB"))).all()


def test_a_flip_comes_half_of_the_time_and_changes_nothing_else() -> None:
    image = smooth_image(0, (31, 17))
    mirrored: Counter[bool] = Counter()
    for seed in range(200):
        changed = levels(augmented(image, ["flip"], seed))
        is_mirrored = bool((changed == levels(image)[:, ::-1]).all())
        assert is_mirrored or (changed == levels(image)).all()
        mirrored[is_mirrored] += 1
    assert 70 < mirrored[True] < 130


def test_a_crop_keeps_half_of_the_area_and_lies_within() -> None:
    """Of a ramp from left to right the part that is shown can be read off."""
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None], 256, 0)).convert("RGB")
    shares = []
    for seed in range(300):
        shown = levels(augmented(ramp, ["crop"], seed))[128, :, 0]
        assert (np.diff(shown) >= 0).all()
        shares.append((shown[-1] - shown[0]) / 255)
    assert 0.5**0.5 - 0.02 < min(shares) < 0.75
    assert 0.97 < max(shares) <= 1


def test_colors_change_by_a_third_at_most() -> None:
    gray = Image.new("RGB", (8, 8), (100, 100, 100))
    means = [levels(augmented(gray, ["color"], seed)).mean() for seed in range(300)]
    assert 69 <= min(means) < 75
    assert 125 < max(means) <= 131


def test_draws_follow_from_seed_epoch_row_and_image() -> None:
    image, augment = smooth_image(0, (40, 30)), Augment(KINDS, 7)
    first = levels(augment(image, 0, 3, 0))
    assert (levels(Augment(KINDS, 7)(image, 0, 3, 0)) == first).all()
    for other in (
        Augment(KINDS, 8)(image, 0, 3, 0),
        *(augment(image, *place) for place in [(1, 3, 0), (0, 4, 0), (0, 3, 1)]),
    ):
        assert (levels(other) != first).any()


@pytest.fixture
def augmenting(rows: list[dict[str, Any]], processor: Any) -> ExampleSet:
    return ExampleSet(rows, lambda row: noise_image(row["seed"]), processor, TASK, augment=Augment(KINDS, 0))


def test_steps_show_new_images_in_each_epoch_and_a_resumed_run_the_same(augmenting: ExampleSet) -> None:
    recipe = recipe_from({"train": {"batch_size": 2}})
    collate = Collator(augmenting.processor.tokenizer.pad_token_id)
    steps = 2 * len(augmenting)

    def pixels(done: int) -> list[torch.Tensor]:
        loader = StepLoader(augmenting, collate, recipe, 0, 1)
        return [batch["pixel_values"] for (batch,) in loader.steps(done, steps)]

    every = pixels(0)
    order = StepBatches(LengthSampler(augmenting.lengths, 2, 0), 2)
    later = len(order) + 1
    for a, b in zip(pixels(later), every[later:], strict=True):
        assert torch.equal(a, b)
    shown = {one.numpy().tobytes() for batch in every for one in batch}
    assert len(shown) >= 2 * len(augmenting)  # no image comes twice


def test_what_is_not_a_step_sees_images_as_they_are(augmenting: ExampleSet, examples: ExampleSet) -> None:
    plain = examples
    for index in range(len(plain)):
        assert torch.equal(augmenting[index]["pixel_values"][0], plain[index]["pixel_values"][0])
        seen = augmenting.in_epoch(index, 1)
        assert not torch.equal(seen["pixel_values"][0], plain[index]["pixel_values"][0])
        assert torch.equal(seen["input_ids"], plain[index]["input_ids"])
        assert torch.equal(plain.in_epoch(index, 1)["pixel_values"][0], plain[index]["pixel_values"][0])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="augment"):
        recipe_from({"data": {"augment": ["rotate"]}})
