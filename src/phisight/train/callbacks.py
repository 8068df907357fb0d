"""What observes training: the progress protocol, data-loading time and the share of padding."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor


class TrainingCallback(Protocol):
    """Observes training on the first rank."""

    def begin(self, steps: int) -> None:
        """Training starts; ``steps`` optimizer steps are planned."""

    def step(self, step: int) -> None:
        """An optimizer step is done."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step: loss, learning rate, gradient norm, validation loss."""


class DataLoadingTime:
    """Time spent fetching micro-batches, as a share of fetching and computing since the last report."""

    def __init__(self) -> None:
        self._loading = self._computing = 0.0

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Micro-batches are fetched."""
        start = time.perf_counter()
        yield
        self._loading += time.perf_counter() - start

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A micro-batch is computed; on a GPU until its loss is known."""
        start = time.perf_counter()
        yield
        self._computing += time.perf_counter() - start

    def share(self) -> float:
        """Loading as a share of both since the last call."""
        whole = self._loading + self._computing
        share = self._loading / whole if whole else 0.0
        self._loading = self._computing = 0.0
        return share


class PaddingShare:
    """Tokens of all batches so far, and how many of them were padding; summed on the batch's device, read on demand."""

    def __init__(self) -> None:
        self._real: Tensor | int = 0
        self._total = 0

    def count(self, batch: Mapping[str, Tensor]) -> None:
        """Add a batch: padding is what its ``attention_mask`` int64[B, T] masks, nothing without one."""
        mask = batch.get("attention_mask")
        self._real = self._real + (batch["input_ids"].numel() if mask is None else mask.sum())
        self._total += batch["input_ids"].numel()

    def counts(self) -> tuple[int, int]:
        """Tokens without and with padding so far."""
        return int(self._real), self._total

    def restore(self, real: int, total: int) -> None:
        """Continue from earlier counts."""
        self._real, self._total = real, total

    def share(self) -> float:
        """Padding as a share of all tokens so far."""
        return 1.0 - float(self._real) / self._total if self._total else 0.0
