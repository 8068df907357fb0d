"""Cross-entropy at the labeled positions only: the token at t is predicted from the hidden state at t - 1.

Shapes: B batch, T text position, D decoder width, V vocabulary, L labeled positions of the batch
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.nn.functional import cross_entropy

IGNORED = -100
"""Label of a token that does not count in the loss."""


def labeled_positions(labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Positions bool[B, T-1] whose next token is labeled, and those labels int64[L]."""
    shifted_BT = labels_BT[:, 1:]
    is_labeled_BT = shifted_BT != IGNORED
    return is_labeled_BT, shifted_BT[is_labeled_BT]


def labeled_loss(
    model: Any,
    hidden_BTD: Tensor,
    labels_BT: Tensor,
    weights_BT: Tensor | None,
    numbers_BT: Tensor | None,
    **kwargs: Any,
) -> Tensor:
    """Loss by the model's language head and number head, with logits at the labeled positions only.

    Args:
        model: Has ``lm_head``, ``loss_function`` and ``number_head`` (which may be None).
        hidden_BTD: Hidden states after the final norm; of the last positions alone where those before have no label.
        labels_BT: int64, -100 where nothing is trained.
        weights_BT: How often each label counts; None means once.
        numbers_BT: Targets of the number head, NaN where there is none; None trains no number head.
        kwargs: ``num_items_in_batch``, the trained tokens of the whole step, is the divisor; without it those of this
            batch.
    """
    last = slice(-hidden_BTD.shape[1], None)
    labels_BT = labels_BT[:, last]
    weights_BT, numbers_BT = (None if one is None else one[:, last] for one in (weights_BT, numbers_BT))
    is_labeled_BT, targets_L = labeled_positions(labels_BT)
    logits_LV, num_items = model.lm_head(hidden_BTD[:, :-1][is_labeled_BT]), kwargs.get("num_items_in_batch")
    if weights_BT is None:
        loss = cast(Tensor, model.loss_function(logits_LV, None, model.vocab_size, shift_labels=targets_L, **kwargs))
    else:
        loss = weighted_loss(logits_LV, targets_L, weights_BT[:, 1:][is_labeled_BT], num_items)
    if model.number_head is None or numbers_BT is None:
        return loss
    return loss + cast(Tensor, model.number_head.loss(hidden_BTD, labels_BT, numbers_BT, num_items))


def weighted_loss(logits_LV: Tensor, targets_L: Tensor, weights_L: Tensor, num_items: Tensor | int | None) -> Tensor:
    """Cross-entropy in which each target counts ``weights_L`` times.

    Divided by ``num_items`` (None means L) as the unweighted loss is, so the weights of each example have the mean 1.
    """
    divisor = len(targets_L) if num_items is None else num_items
    return (cross_entropy(logits_LV.float(), targets_L, reduction="none") * weights_L).sum() / divisor
