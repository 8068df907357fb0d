"""Parameters in groups for the optimizer: one learning rate per part, weight decay on matrices only."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from phisight.core.settings import TrainSettings
from phisight.model.number_head import ATTRIBUTE, head_of
from phisight.train.trainable.module_groups import part_of

HEAD_STEP = 0.5
"""Lower bound of a number head's peak learning rate, times the width of its input: it starts untrained beside a
pretrained model, and a step of Adam changes its output by about the rate times the width.
"""


def learning_rate_of(name: str, train: TrainSettings) -> float:
    """Peak learning rate of a parameter, by the part it belongs to."""
    rates = {"tower": train.tower_learning_rate, "projector": train.projector_learning_rate}
    return rates.get(part_of(name)) or train.learning_rate


def parameter_groups(model: nn.Module, train: TrainSettings, decayed: Collection[str]) -> list[dict[str, Any]]:
    """Trainable parameters grouped by learning rate and weight decay; ``decayed`` names those with weight decay.

    Vectors (norms, biases, separators, DoRA's magnitudes) have no weight decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    head = head_of(model)
    least = HEAD_STEP / head.inner.in_features if head else 0.0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = name in decayed and parameter.squeeze().ndim > 1
        rate = learning_rate_of(name, train)
        key = max(rate, least) if ATTRIBUTE in name else rate, train.weight_decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    return [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in groups.items()]
