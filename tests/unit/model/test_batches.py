"""Batches of text, of images and of both: what is computed, what it costs, where gradients flow."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from phisight.model import Phi3VisionForConditionalGeneration, Phi3VProcessor
from tests.helpers import small_model

Model = Phi3VisionForConditionalGeneration
TOWER = "vision_model.encoder.layers"


@pytest.fixture
def mixed(processor: Phi3VProcessor) -> dict[str, Tensor]:
    """Rows with one image, none, and two."""
    return dict(
        processor(
            text=["<|image_1|>a", "no image at all", "<|image_1|>and<|image_2|>b"],
            images=[
                [small_model.image(1, 160, 100)],
                [],
                [small_model.image(2, 40, 40), small_model.image(3, 50, 120)],
            ],
            padding=True,
            return_tensors="pt",
        )
    )


def test_rows_of_a_batch_equal_rows_alone(model: Model, processor: Phi3VProcessor, mixed: dict[str, Tensor]) -> None:
    batch = model(**mixed).logits
    first = 0
    for row, count in enumerate((1, 0, 2)):
        length = int(mixed["attention_mask"][row].sum())
        own: dict[str, Any] = {"input_ids": mixed["input_ids"][row : row + 1, :length]}
        if count:
            own["pixel_values"] = mixed["pixel_values"][first : first + count]
            own["image_sizes"] = mixed["image_sizes"][first : first + count]
        first += count
        torch.testing.assert_close(model(**own).logits[0], batch[row, :length], atol=2e-5, rtol=0)


def test_text_alone_never_runs_the_tower(model: Model, processor: Phi3VProcessor) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the tower ran")

    model.model.vision_embed_tokens.register_forward_pre_hook(refuse)
    batch = processor(text=["one", "another one"], padding=True, return_tensors="pt")
    output = model(**batch, labels=batch["input_ids"])
    output.loss.backward()
    assert model.model.vision_embed_tokens.sub_GN.grad is None


def test_only_used_crops_reach_the_tower(model: Model, mixed: dict[str, Tensor]) -> None:
    seen = []
    tower = model.model.vision_embed_tokens.img_processor
    tower.register_forward_pre_hook(lambda _module, args: seen.append(len(args[0])))
    model(**mixed)
    rows, columns = (mixed["image_sizes"] // small_model.CROP).unbind(1)
    used = int((rows * columns + 1).sum())
    assert mixed["pixel_values"].shape[:2].numel() == 21
    assert seen == [used]
    assert used < 21


def test_an_image_of_one_tile_is_computed_once(model: Model, processor: Phi3VProcessor) -> None:
    batch = processor(text="<|image_1|>a", images=small_model.image(2, 40, 40), num_crops=1, return_tensors="pt")
    seen = []
    tower = model.model.vision_embed_tokens.img_processor
    tower.register_forward_pre_hook(lambda _module, args: seen.append(len(args[0])))
    once = model(**batch).logits
    other = batch["pixel_values"].clone()
    other[0, 0, 0, 0, 0] += 1e-5  # no longer the same image bit for bit, so both are computed
    torch.testing.assert_close(model(**{**batch, "pixel_values": other}).logits, once, atol=2e-5, rtol=0)
    assert seen == [1, 2]


def test_what_lies_in_padding_crops_changes_nothing(model: Model, mixed: dict[str, Tensor]) -> None:
    noisy = mixed["pixel_values"].clone()
    for image, (height, width) in enumerate(mixed["image_sizes"].tolist()):
        noisy[image, height // small_model.CROP * (width // small_model.CROP) + 1 :] = 5.0
    assert not torch.equal(noisy, mixed["pixel_values"])
    assert torch.equal(model(**mixed).logits, model(**{**mixed, "pixel_values": noisy}).logits)


def test_fewer_padding_crops_change_nothing(model: Model, processor: Phi3VProcessor) -> None:
    image = small_model.image(1, 40, 40)
    full = processor(text="<|image_1|>a", images=image, return_tensors="pt", num_crops=6)
    batch = processor(text="<|image_1|>a", images=small_model.image(1, 60, 30), return_tensors="pt", pad_crops=False)
    assert full["pixel_values"].shape[1] == 7
    assert batch["pixel_values"].shape[1] == int(batch["image_sizes"].prod()) // small_model.CROP**2 + 1


def test_the_last_tower_layer_is_held_but_never_run(model: Model, mixed: dict[str, Tensor]) -> None:
    vision = model.model.vision_embed_tokens.img_processor.vision_model
    ran: list[str] = []
    for name, module in (("last", vision.encoder.layers[-1]), ("post", vision.post_layernorm)):
        module.register_forward_hook(lambda *_args, name=name: ran.append(name))
    model(**mixed, labels=mixed["input_ids"]).loss.backward()
    assert not ran
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    unused = {name for name, _ in model.named_parameters() if f"{TOWER}.2." in name or "post_layernorm" in name}
    assert without == unused
    assert len(unused) == 18


@pytest.mark.parametrize("trained", ["vision", "projector", "everything"])
def test_gradients_reach_what_is_trained(model: Model, mixed: dict[str, Tensor], trained: str) -> None:
    wanted = {"vision": "img_processor", "projector": "img_projection", "everything": ""}[trained]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(wanted in name)
    model(**mixed, labels=mixed["input_ids"]).loss.backward()
    for name, parameter in model.named_parameters():
        if wanted in name and f"{TOWER}.2." not in name and "post_layernorm" not in name:
            assert parameter.grad is not None, name
            # Softmax takes no notice of what all keys have in common, so key biases learn nothing.
            assert bool(parameter.grad.any()) or name.endswith("k_proj.bias"), name
        elif wanted not in name:
            assert parameter.grad is None, name


def test_each_image_only_moves_its_own_row(model: Model, mixed: dict[str, Tensor]) -> None:
    before = model(**mixed).logits
    other = mixed["pixel_values"].clone()
    other[0] += 0.5
    after = model(**{**mixed, "pixel_values": other}).logits
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1:], after[1:])


def test_labels_at_slots_never_count(model: Model, mixed: dict[str, Tensor]) -> None:
    ids = mixed["input_ids"]
    slots = ids == model.config.image_token_id
    assert slots.any()
    losses = [model(**mixed, labels=ids.masked_fill(slots, value)).loss.item() for value in (-100, -1, 5)]
    assert losses[0] == losses[1] == losses[2]


def test_logits_to_keep(model: Model, mixed: dict[str, Tensor]) -> None:
    logits = model(**mixed).logits
    torch.testing.assert_close(model(**mixed, logits_to_keep=3).logits, logits[:, -3:])
    places = torch.tensor([0, 4])
    torch.testing.assert_close(model(**mixed, logits_to_keep=places).logits, logits[:, places])


def test_a_row_does_not_hear_how_long_its_neighbour_is(model: Model, processor: Phi3VProcessor) -> None:
    short, long = "a short row", "long " * 25
    alone = model(**processor(text=short, return_tensors="pt")).logits
    pair = processor(text=[short, long], padding=True, return_tensors="pt")
    length = alone.shape[1]
    assert length <= small_model.ORIGINAL_LENGTH < pair["input_ids"].shape[1]
    torch.testing.assert_close(model(**pair).logits[0, :length], alone[0], atol=2e-5, rtol=0)
    by_batch = small_model.model(rope_switch="batch")
    assert (by_batch(**pair).logits[0, :length] - alone[0]).abs().max() > 1e-2


def test_padding_alone_does_not_reach_the_long_factors(model: Model, processor: Phi3VProcessor) -> None:
    text = processor(text="a short row", return_tensors="pt")
    length = text["input_ids"].shape[1]
    padded = processor(text="a short row", padding="max_length", max_length=200, return_tensors="pt")
    alone = model(**text).logits[0]
    torch.testing.assert_close(model(**padded).logits[0, :length], alone, atol=2e-5, rtol=0)
    processor.tokenizer.padding_side = "left"
    left = processor(text="a short row", padding="max_length", max_length=200, return_tensors="pt")
    torch.testing.assert_close(model(**left).logits[0, -length:], alone, atol=2e-5, rtol=0)


def test_embedding_dropout_acts_on_images_only(mixed: dict[str, Tensor], processor: Phi3VProcessor) -> None:
    dropping = small_model.model(embd_pdrop=0.5).train()
    assert isinstance(dropping.model.vision_embed_tokens.drop, nn.Dropout)
    text = processor(text="only text", return_tensors="pt")
    assert torch.equal(dropping(**text).logits, dropping(**text).logits)
    assert not torch.equal(dropping(**mixed).logits, dropping(**mixed).logits)
