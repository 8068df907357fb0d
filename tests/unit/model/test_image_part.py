"""A batch without images can take its part in what several processes do with tower and projector."""

import pytest
import torch

from phisight.model.tiny import tiny_config, tiny_model, tiny_processor


@pytest.mark.parametrize("at_rest", [False, True])
def test_a_blank_image_is_worth_nothing(at_rest: bool) -> None:
    """It is 0 and leaves gradients of 0, not none, with all that trains."""
    model = tiny_model(tiny_config(tiny_processor(["a bag"], vocab_size=300).tokenizer))
    image_part = model.model.vision_embed_tokens
    image_part.img_processor.requires_grad_(not at_rest)
    image_part.features_precomputed = at_rest
    zero = image_part.zero()
    zero.backward()  # type: ignore[no-untyped-call]
    assert zero.item() == 0
    tower = image_part.img_processor.vision_model
    unused = {id(one) for part in (tower.encoder.layers[-1], tower.post_layernorm) for one in part.parameters()}
    for name, one in image_part.named_parameters():
        if id(one) in unused or not one.requires_grad:
            assert one.grad is None
        else:
            assert one.grad is not None, name
            assert not torch.any(one.grad)
