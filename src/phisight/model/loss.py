"""The training loss with logits only where a label is predicted, labels weighed and numbers predicted where asked."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.nn.functional import cross_entropy

from phisight.model.labels import labelled_places


def labelled_loss(
    model: Any, hidden: Tensor, labels: Tensor, weights: Tensor | None, numbers: Tensor | None, **kwargs: Any
) -> Tensor:
    """Loss of hidden states [B, T, D] and labels int64[B, T] by the model's language head and number head.

    Args:
        model: Has ``lm_head``, ``loss_function`` and ``number_head`` (which may be none).
        hidden: After the final norm.
        labels: -100 where nothing counts.
        weights: float[B, T], how often each label counts; none: once.
        numbers: float[B, T], NaN where there is none: what the number head is trained on; none: it is not.
        kwargs: ``num_items_in_batch``, trained tokens of the whole step (none: of this batch), by which is divided.
    """
    places, targets = labelled_places(labels)
    logits, num_items = model.lm_head(hidden[:, :-1][places]), kwargs.get("num_items_in_batch")
    if weights is None:
        loss = cast(Tensor, model.loss_function(logits, None, model.vocab_size, shift_labels=targets, **kwargs))
    else:
        loss = weighted_loss(logits, targets, weights[:, 1:][places], num_items)
    if model.number_head is None or numbers is None:
        return loss
    return loss + cast(Tensor, model.number_head.loss(hidden, labels, numbers, num_items))


def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor, num_items: Tensor | int | None) -> Tensor:
    """Cross-entropy of logits [n, V] and targets int64[n], each counting ``weights`` float[n] times.

    Divided by ``num_items`` (none: n) as the unweighted loss is, so weights are to have the mean 1 over each example.
    """
    every = len(targets) if num_items is None else num_items
    return (cross_entropy(logits.float(), targets, reduction="none") * weights).sum() / every
