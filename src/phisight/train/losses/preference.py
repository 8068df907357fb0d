"""Direct preference optimization: of two answers to one question, the chosen one gains on the rejected one.

    ratio    = log p(answer) now - log p(answer) before training     of each side; optionally divided by its tokens
    reward   = beta * ratio
    loss     = -log sigmoid(reward of chosen - reward of rejected)
             + anchor_weight * -log sigmoid(reward of chosen)
             + image_weight  * -log sigmoid(reward of chosen - reward of chosen under another product's image)

Sources: arXiv 2305.18290 (DPO), 2406.11839 (mDPO: the anchor and the pairs of images). Sums over pairs are divided by
the pairs of the whole step, so a step is the same however it is divided into micro-batches and ranks.

Shapes: P pairs, S sides of a pair (chosen, rejected and, with the image term, chosen under the other image), B rows and
T tokens of the batch (packed: one row), K positions of any row that predict a token of an answer, V vocabulary
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from phisight.core.settings import PreferenceSettings
from phisight.model.loss import IGNORED
from phisight.train.losses.interface import COUNT, Batch, Computed, Loss

NOT_FOR_THE_MODEL = ("labels", "sides", "reference")
"""Entries of a batch of pairs that no forward pass reads."""


def preference_loss(settings: PreferenceSettings) -> Loss:
    """The loss over batches of ``PairCollator`` that carry ``reference`` float32[P, S]."""

    def compute(outputs: Any, batch: Batch, divisor: Tensor) -> Computed:
        policy_PS, tokens_PS = log_probabilities(outputs.logits, batch)
        rewards_PS = rewards(policy_PS, tokens_PS, batch["reference"], settings)
        is_real_P = tokens_PS[:, 0].gt(0)
        loss = (pair_losses(rewards_PS, settings) * is_real_P).sum() / divisor
        with torch.no_grad():
            drift_P = token_drift(policy_PS[:, :2], batch["reference"][:, :2], tokens_PS[:, :2])
            figures = {**_figures(policy_PS, rewards_PS), "kl": drift_P}
            return Computed(loss, {name: values[is_real_P].double().sum() for name, values in figures.items()})

    return Loss(real_pairs, forward_arguments, compute)


def _figures(policy_PS: Tensor, rewards_PS: Tensor) -> dict[str, Tensor]:
    """What is logged of each pair, [P]; COUNT is one."""
    figures = {
        COUNT: torch.ones_like(policy_PS[:, 0]),
        "reward_margin": rewards_PS[:, 0] - rewards_PS[:, 1],
        "reward_accuracy": rewards_PS[:, 0] > rewards_PS[:, 1],
        "chosen_log_probability": policy_PS[:, 0],
        "rejected_log_probability": policy_PS[:, 1],
    }
    if rewards_PS.shape[1] == 3:
        figures["image_reward_margin"] = rewards_PS[:, 0] - rewards_PS[:, 2]
        figures["image_reward_accuracy"] = rewards_PS[:, 0] > rewards_PS[:, 2]
    return figures


def real_pairs(batch: Batch) -> int:
    """Pairs of a batch whose answers are labeled; a dummy pair's are not."""
    labels_BT: Tensor = batch["labels"]
    is_labeled_BT = labels_BT.ne(IGNORED)
    labeled = torch.bincount(_side_of_token(batch)[is_labeled_BT], minlength=_number_of_sides(batch))
    return int(labeled[:: batch["sides"]].gt(0).sum())


def predicting_positions(labels_BT: Tensor) -> Tensor:
    """Positions int64[K] after which any row has a labeled token; the collator computes them once, on the CPU."""
    return labels_BT[:, 1:].ne(IGNORED).any(dim=0).nonzero()[:, 0]


def forward_arguments(batch: Batch, _divisor: Tensor | None = None) -> dict[str, Any]:
    """The batch without labels; its ``logits_to_keep`` int64[K] says which logits are computed."""
    return {**{name: value for name, value in batch.items() if name not in NOT_FOR_THE_MODEL}, "use_cache": False}


def log_probabilities(logits_BKV: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probability float32[P, S] of each side's answer, and its tokens int64[P, S].

    ``logits_BKV`` are those of the batch's ``logits_to_keep``.
    """
    predicted_K = batch["logits_to_keep"] + 1
    targets_BK = batch["labels"][:, predicted_K]
    sides_BK = _side_of_token(batch)[:, predicted_K]
    is_labeled_BK = targets_BK.ne(IGNORED)
    gained = -cross_entropy(logits_BKV[is_labeled_BK].float(), targets_BK[is_labeled_BK], reduction="none")
    sides, number = sides_BK[is_labeled_BK], _number_of_sides(batch)
    sums = gained.new_zeros(number).index_add(0, sides, gained)
    tokens = torch.bincount(sides, minlength=number)
    return sums.view(-1, batch["sides"]), tokens.view(-1, batch["sides"])


def rewards(policy_PS: Tensor, tokens_PS: Tensor, reference_PS: Tensor, settings: PreferenceSettings) -> Tensor:
    """Rewards float32[P, S]: by how much each answer has become likelier than before training, times ``beta``."""
    ratios_PS = policy_PS - reference_PS
    return settings.beta * (ratios_PS / tokens_PS.clamp(min=1) if settings.normalize else ratios_PS)


def pair_losses(rewards_PS: Tensor, settings: PreferenceSettings) -> Tensor:
    """Loss float32[P] of each pair; the image term where a pair has a third side."""
    chosen_P = rewards_PS[:, 0]
    losses_P = -logsigmoid(chosen_P - rewards_PS[:, 1])
    if settings.anchor_weight:
        losses_P = losses_P - settings.anchor_weight * logsigmoid(chosen_P)
    if rewards_PS.shape[1] == 3:
        losses_P = losses_P - settings.image_weight * logsigmoid(chosen_P - rewards_PS[:, 2])
    return losses_P


def token_drift(policy_PS: Tensor, reference_PS: Tensor, tokens_PS: Tensor) -> Tensor:
    """How far the model has moved from the reference, float32[P]: exp(r) - 1 - r, averaged over the sides.

    r is the mean log-ratio of an answer's tokens. An estimate of the KL divergence a token, never negative; the answers
    are those of the pairs and no samples of the model as it is now, so it shows a trend and no exact value.
    """
    ratios_PS = (policy_PS - reference_PS) / tokens_PS.clamp(min=1)
    return (ratios_PS.expm1() - ratios_PS).mean(dim=1)


def _number_of_sides(batch: Batch) -> int:
    return len(batch["sample_lengths"]) if "sample_lengths" in batch else len(batch["labels"])


def _side_of_token(batch: Batch) -> Tensor:
    """The side that each token belongs to, int64[B, T]."""
    labels_BT, sides = batch["labels"], torch.arange(_number_of_sides(batch), device=batch["labels"].device)
    if "sample_lengths" in batch:
        lengths = torch.tensor(batch["sample_lengths"], device=labels_BT.device)
        return sides.repeat_interleave(lengths)[None]
    return sides[:, None].expand_as(labels_BT)
