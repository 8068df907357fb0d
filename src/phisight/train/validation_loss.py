"""Loss on the validation split: the mean over its trained tokens, however it is cut into batches and processes.

    each process: sum of the loss over its rows' tokens, number of these tokens --all processes--> sum / number

Every row counts once. Where rows do not reach for all, a process computes one that does not count, since weights in
shards need every process in every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from phisight.model.loss import labeled_positions
from phisight.train.distributed.process_group import gather_numbers


@torch.no_grad()
def mean_over_tokens(batches: Iterable[Mapping[str, Any]], summed: Callable[[Mapping[str, Any]], Tensor]) -> float:
    """Mean loss of a token over the batches of all processes, the same in each of them; called by all.

    Args:
        batches: Those of this process, with ``labels`` int64[B, T].
        summed: Loss of a batch, summed over its trained tokens.

    Returns:
        NaN where no process has a token that counts.
    """
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for batch in batches:
        total = total + summed(batch).double().to(total.device)
        tokens += len(labeled_positions(batch["labels"])[1])
    sums = [sum(column) for column in zip(*gather_numbers([float(total), float(tokens)]), strict=True)]
    return sums[0] / sums[1] if sums[1] else float("nan")
