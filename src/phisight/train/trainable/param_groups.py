"""The optimizer and its schedule: AdamW over groups with one learning rate per part, weight decay on matrices only."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from phisight.core.settings import TrainSettings
from phisight.model.number_head import ATTRIBUTE, head_of
from phisight.train.trainable.module_groups import part_of

ADAM_BETA1, ADAM_EPSILON = 0.9, 1e-8
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Names of parameters without weight decay, in lower case."""
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
        decays = name in decayed and sum(size > 1 for size in parameter.shape) > 1
        rate = learning_rate_of(name, train)
        key = max(rate, least) if ATTRIBUTE in name else rate, train.weight_decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    return [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in groups.items()]


def decayed_names(model: nn.Module) -> set[str]:
    """Names of the parameters with weight decay: all but those of norms and biases."""
    norms = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, nn.LayerNorm))
    names = [name for name, _ in model.named_parameters()]
    return {name for name in names if not name.startswith(norms) and not _NO_DECAY.search(name.lower())}


def make_optimizer(model: nn.Module, train: TrainSettings) -> AdamW:
    """Fused AdamW over the trainable parameters of a model that is on its device, and sharded if it will be."""
    groups = parameter_groups(model, train, decayed_names(model))
    return AdamW(groups, lr=train.learning_rate, betas=(ADAM_BETA1, train.adam_beta2), eps=ADAM_EPSILON, fused=True)


def make_schedule(optimizer: AdamW, train: TrainSettings, steps: int) -> LRScheduler:
    """Learning rates over ``steps``, after a warm-up."""
    warmup = math.ceil(train.warmup * steps)
    schedule: LRScheduler = get_scheduler(train.schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    return schedule


def advanced_schedule(optimizer: AdamW, train: TrainSettings, steps: int, done: int) -> LRScheduler:
    """The schedule over ``steps`` after ``done`` of them: that of a run which has become longer."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    schedule = make_schedule(optimizer, train, steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of steps of the schedule without steps of the optimizer
        for _ in range(done):
            schedule.step()
    return schedule
