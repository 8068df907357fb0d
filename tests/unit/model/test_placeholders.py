"""Image placeholders are found, matched and counted image by image; ids are read, never changed."""

import pytest
import torch
from torch import Tensor

from phisight.core.errors import ImagePlaceholderError
from phisight.model import Phi3VisionForConditionalGeneration, Phi3VProcessor
from phisight.model.placeholders import PlaceholderRun, images_of_runs, placeholder_mask, placeholder_runs
from tests.helpers import small_model

IMAGE = 9


def ids(*rows: list[int]) -> Tensor:
    return torch.tensor(rows)


def test_runs_of_placeholders_and_of_negative_ids() -> None:
    found = placeholder_runs(ids([1, 9, 9, 1, 9], [-1, -1, -2, 5, -3]), IMAGE)
    assert found == [
        PlaceholderRun(0, 1, 2, 9),
        PlaceholderRun(0, 4, 1, 9),
        PlaceholderRun(1, 0, 2, -1),
        PlaceholderRun(1, 2, 1, -2),
        PlaceholderRun(1, 4, 1, -3),
    ]


def test_a_run_ends_with_its_row() -> None:
    assert [run.row for run in placeholder_runs(ids([1, 9, 9], [9, 9, 1]), IMAGE)] == [0, 1]


def test_no_slots() -> None:
    assert placeholder_runs(ids([1, 2], [3, 4]), IMAGE) == []
    assert not placeholder_mask(ids([0, 1]), IMAGE).any()


def test_negative_ids_name_their_image_within_the_row() -> None:
    runs = placeholder_runs(ids([-2, -2, 1, -1, 1], [1, 1, -1, -1, -1]), IMAGE)
    assert images_of_runs(runs, [1, 2, 3]) == [1, 0, 2]


def test_one_too_many_and_one_too_few_do_not_cancel() -> None:
    runs = placeholder_runs(ids([9, 9, 9, 1], [9, 9, 1, 1]), IMAGE)
    with pytest.raises(
        ImagePlaceholderError, match=r"row 0, image 1: the prompt holds 3 image placeholders .* made 2 features"
    ):
        images_of_runs(runs, [2, 3])


def test_the_error_names_the_second_row() -> None:
    runs = placeholder_runs(ids([9, 9, 1, 9], [9, 9, 1, 1]), IMAGE)
    with pytest.raises(
        ImagePlaceholderError, match=r"row 1, image 1: the prompt holds 2 image placeholders .* made 5 features"
    ):
        images_of_runs(runs, [2, 1, 5])


def test_runs_and_images_are_counted() -> None:
    wanted = r"2 runs of image placeholders \(rows \[0, 1\]\) but 1 images"
    with pytest.raises(ImagePlaceholderError, match=wanted):
        images_of_runs(placeholder_runs(ids([9, 1], [1, 9]), IMAGE), [1])


@pytest.mark.parametrize("row", [[-1, 1, -1], [-2, 1, -3], [-3, 1, -1]])
def test_numbers_repeat_or_leave_a_gap(row: list[int]) -> None:
    with pytest.raises(ImagePlaceholderError, match=r"number the tags 1, 2, \.\.\. without a gap"):
        images_of_runs(placeholder_runs(ids(row), IMAGE), [1, 1])


def test_ids_are_never_changed(model: Phi3VisionForConditionalGeneration, processor: Phi3VProcessor) -> None:
    batch = processor(text="<|image_1|>a", images=small_model.image(1, 60, 40), return_tensors="pt")
    slots = batch["input_ids"] == model.config.image_token_id
    for given in (batch["input_ids"], batch["input_ids"].masked_fill(slots, -1)):
        before = given.clone()
        model(**{**batch, "input_ids": given}, labels=given)
        model.generate(**{**batch, "input_ids": given}, max_new_tokens=2, do_sample=False)
        assert torch.equal(given, before)


def test_the_model_reports_a_resized_image(
    model: Phi3VisionForConditionalGeneration, processor: Phi3VProcessor
) -> None:
    batch = processor(text="<|image_1|>a", images=small_model.image(1, 40, 40), return_tensors="pt")
    other = processor.image_processor(small_model.image(1, 160, 100), return_tensors="pt")
    with pytest.raises(
        ImagePlaceholderError, match=r"row 0, image 1: the prompt holds \d+ image placeholders .* made 35 features"
    ):
        model(batch["input_ids"], pixel_values=other["pixel_values"], image_sizes=other["image_sizes"])


def test_sizes_that_the_pixels_do_not_hold(
    model: Phi3VisionForConditionalGeneration, processor: Phi3VProcessor
) -> None:
    batch = processor(text="<|image_1|>a", images=small_model.image(1, 160, 100), return_tensors="pt")
    with pytest.raises(
        ImagePlaceholderError, match=r"image 0: image_sizes ask for 2 x 3 tiles .* pixel_values holds 3 crops"
    ):
        model(**{**batch, "pixel_values": batch["pixel_values"][:, :3]})
    vision = model.model.vision_embed_tokens
    with pytest.raises(ImagePlaceholderError, match="holds 2 images but image_sizes 1"):
        vision(batch["pixel_values"].repeat(2, 1, 1, 1, 1), batch["image_sizes"])


def test_neither_ids_nor_embeddings(model: Phi3VisionForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        model()
