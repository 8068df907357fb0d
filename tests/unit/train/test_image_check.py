"""A model that does not see is stopped before its first step."""

from typing import Any

import pytest
import torch

from phisight.core.errors import ImageCheckError
from phisight.train.image_check import check_images


def test_a_seeing_model_passes_and_nothing_changes(model: Any, batch: Any) -> None:
    before = {name: value.clone() for name, value in batch.items()}
    model.train()
    check = check_images(model, batch)
    assert check.change > 1e-6
    assert model.training
    assert all(torch.equal(batch[name], value) for name, value in before.items())
    assert all(value.grad is None for value in model.parameters())


def test_one_example_is_enough(model: Any, batch: Any) -> None:
    assert check_images(model, {name: value[:1] for name, value in batch.items()}).change > 1e-6


class PlainText(torch.nn.Module):
    """What the published script trains: the tag as plain text, the pixels never read."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any, **_: Any) -> Any:
        text = input_ids.masked_fill(input_ids == self.model.config.image_token_id, 5)
        return self.model(input_ids=text, attention_mask=attention_mask, labels=labels)


def test_a_text_model_is_refused(model: Any, batch: Any) -> None:
    with pytest.raises(ImageCheckError, match="does not change the loss"):
        check_images(PlainText(model), batch)


def test_a_dead_projector_is_refused(model: Any, batch: Any) -> None:
    for parameter in model.model.vision_embed_tokens.img_projection.parameters():
        torch.nn.init.zeros_(parameter)
    with pytest.raises(ImageCheckError, match="does not change the loss"):
        check_images(model, batch)


def test_nothing_to_train_is_an_error(model: Any, batch: Any) -> None:
    with pytest.raises(ImageCheckError, match="no token of the first batch is trained"):
        check_images(model, {**batch, "labels": torch.full_like(batch["labels"], -100)})
