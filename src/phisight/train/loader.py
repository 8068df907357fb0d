"""Batches of a rank: the micro-batches of one optimizer step after another, and those of an evaluation."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from phisight.core.dataset_folder import FILE_NAME
from phisight.core.errors import some
from phisight.core.seeding import named_seed
from phisight.core.settings import Recipe, TrainSettings
from phisight.train.callbacks import DataLoadingTime
from phisight.train.examples.sampler import InEpochs, LengthSampler, LongestFirst, StepBatches, WithDummies
from phisight.train.shutdown import worker_signals

PREFETCHED = 4
"""Micro-batches that each worker prepares ahead."""

Collate = Callable[[Sequence[Any]], dict[str, Any]]


def planned_steps(rows: int, train: TrainSettings, ranks: int = 1) -> int:
    """Optimizer steps of a run over so many rows."""
    if train.steps is not None:
        return train.steps
    per_epoch = math.ceil(rows / (train.batch_size * train.accumulate * ranks))
    return max(1, math.ceil(per_epoch * train.epochs))


class StepLoader:
    """Micro-batches of one rank, an optimizer step at a time.

    [Contract] The batches of a step are a function of recipe, step and rank: a resumed run gets the same ones and opens
    no image of an earlier step.
    """

    def __init__(self, examples: Any, collate: Collate, recipe: Recipe, rank: int, ranks: int) -> None:
        train = recipe.train
        self.accumulate = train.accumulate
        self.examples_per_step = train.batch_size * train.accumulate * ranks
        self.time = DataLoadingTime()
        self._examples = examples
        order = LengthSampler(examples.lengths, self.examples_per_step, named_seed(recipe.seed, "order") % 2**32)
        self._batches = StepBatches(order, train.batch_size, rank, ranks)
        self._loader = _loader(examples, self._batches, collate, recipe)
        self.steps_per_epoch = math.ceil(len(self._batches) / self.accumulate)

    def steps(self, done: int, planned: int) -> Iterator[list[dict[str, Any]]]:
        """Micro-batches of each step after ``done``, up to ``planned``; the last step of an epoch may have fewer."""
        micro_batches: Iterator[dict[str, Any]] = iter(())
        for step in range(done, planned):
            epoch, in_epoch = divmod(step, self.steps_per_epoch)
            first = in_epoch * self.accumulate
            if step == done or in_epoch == 0:
                self._batches.set_epoch(epoch, first)
                micro_batches = iter(self._loader)
            with self.time.loading():
                fetched = [next(micro_batches) for _ in range(min(self.accumulate, len(self._batches) - first))]
            yield fetched

    def epoch_after(self, step: int) -> float:
        """Epochs done after a step, counted in micro-batches."""
        epoch, in_epoch = divmod(step - 1, self.steps_per_epoch)
        return epoch + min((in_epoch + 1) * self.accumulate, len(self._batches)) / len(self._batches)

    def rows_of(self, step: int, micro_batch: int) -> str:
        """Files and indices of the examples in a micro-batch of the step after ``step``, for an error message."""
        epoch, in_epoch = divmod(step, self.steps_per_epoch)
        rows = getattr(self._examples, "rows", None)
        indices = self._batches.real_indices(epoch, in_epoch * self.accumulate + micro_batch)
        return some((f"{rows[index].get(FILE_NAME, 'row')} (row {index})" if rows else index) for index in indices)


def evaluation_loader(examples: Any, collate: Collate, recipe: Recipe, rank: int, ranks: int) -> DataLoader[Any]:
    """Batches of similar length for one rank; every row is in exactly one batch of all ranks."""
    return _loader(
        examples, StepBatches(LongestFirst(examples.lengths), recipe.train.batch_size, rank, ranks), collate, recipe
    )


def _loader(examples: Any, batches: StepBatches, collate: Collate, recipe: Recipe) -> DataLoader[Any]:
    """Drawing from it leaves the random state of the training step alone."""
    workers = recipe.data.workers
    return DataLoader(
        WithDummies(examples),
        batch_sampler=InEpochs(batches) if getattr(examples, "augment", None) else batches,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCHED if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=worker_signals,
        generator=torch.Generator().manual_seed(named_seed(recipe.seed, "order") % 2**32),
    )
