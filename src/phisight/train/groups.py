"""Parameters in groups for the optimiser: one learning rate a part, decay on matrices only."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from phisight.core.settings import TrainSettings
from phisight.train.parts import part_of

NUMBER_HEAD_RATE = 3e-3
"""Least peak learning rate of the number head: it starts from nothing where the rest has long been trained."""


def learning_rate_of(name: str, train: TrainSettings) -> float:
    """Peak learning rate of a parameter, by the part it belongs to."""
    if "number_head" in name:
        return max(train.learning_rate, NUMBER_HEAD_RATE)
    rates = {"tower": train.tower_learning_rate, "projector": train.projector_learning_rate}
    return rates.get(part_of(name)) or train.learning_rate


def parameter_groups(model: nn.Module, train: TrainSettings, decayed: Collection[str]) -> list[dict[str, Any]]:
    """Groups of trained parameters that share learning rate and weight decay; ``decayed`` names the ones that decay.

    Vectors (norms, biases, separators, DoRA's magnitudes) never decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = name in decayed and parameter.squeeze().ndim > 1
        key = learning_rate_of(name, train), train.weight_decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    return [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in groups.items()]
