"""Logits only where there is a label: the same loss and gradients, in memory that does not grow with the vocabulary."""

from typing import Any

import pytest
import torch

from phisight.core.settings import LoraSettings, TrainSettings
from phisight.train.trainable.methods import apply_method


def gradients(model: Any, **inputs: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("items", [None, 7, torch.tensor(41)])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_loss_and_gradients_are_those_of_all_logits(
    method: Any, items: Any, model: Any, batch: dict[str, torch.Tensor]
) -> None:
    settings = TrainSettings(method=method, train_tower=method == "full")
    model = apply_method(model, settings, LoraSettings(rank=2))
    counted = {} if items is None else {"num_items_in_batch": items}
    full, full_gradients = gradients(model, **batch, **counted)
    labeled, labeled_gradients = gradients(model, **batch, **counted, skip_logits=True)
    torch.testing.assert_close(labeled, full, rtol=1e-6, atol=1e-7)
    assert labeled_gradients.keys() == full_gradients.keys()
    for name, gradient in full_gradients.items():
        torch.testing.assert_close(labeled_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_number_of_items_divides_the_loss(model: Any, batch: dict[str, torch.Tensor]) -> None:
    trained = int((batch["labels"][:, 1:] != -100).sum())
    mean = model(**batch, skip_logits=True).loss
    half = model(**batch, skip_logits=True, num_items_in_batch=2 * trained).loss
    torch.testing.assert_close(half * 2, mean)


def test_labels_at_image_slots_and_at_the_start_do_not_count(model: Any, batch: dict[str, torch.Tensor]) -> None:
    labels = batch["labels"].clone()
    labels[batch["input_ids"] == model.config.image_token_id] = 3
    labels[:, 0] = 5  # nothing comes before the first token
    expected = model(**batch, skip_logits=True).loss
    torch.testing.assert_close(model(**{**batch, "labels": labels}, skip_logits=True).loss, expected)


def test_the_head_sees_labeled_places_only(model: Any, batch: dict[str, torch.Tensor]) -> None:
    seen: list[torch.Size] = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    output = model(**batch, skip_logits=True)
    assert output.logits is None
    assert seen == [(int((batch["labels"] != -100).sum()), model.config.vocab_size)]


def test_without_labels_or_the_flag_logits_are_complete(model: Any, batch: dict[str, torch.Tensor]) -> None:
    whole = (*batch["input_ids"].shape, model.config.vocab_size)
    assert model(**batch).logits.shape == whole
    unlabeled = {name: value for name, value in batch.items() if name != "labels"}
    assert model(**unlabeled, skip_logits=True).logits.shape == whole


def test_a_batch_without_a_label_behaves_like_all_logits(model: Any, batch: dict[str, torch.Tensor]) -> None:
    """A rank whose micro-batch trains nothing adds zero and still takes part in the backward pass."""
    empty = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    loss, found = gradients(model, **empty, skip_logits=True, num_items_in_batch=9)
    assert float(loss) == 0
    assert all(not gradient.any() for gradient in found.values())
    assert "lm_head.weight" in found
