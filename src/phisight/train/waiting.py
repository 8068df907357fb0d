"""How long steps wait for data: time to fetch micro-batches, as a share of fetching and computing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class DataWait:
    """Two stopwatches; the share is of what ran since it was last asked for."""

    def __init__(self) -> None:
        self._waited = self._worked = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Micro-batches are fetched."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def working(self) -> Iterator[None]:
        """A micro-batch is computed; on a GPU until its loss is known."""
        start = time.perf_counter()
        yield
        self._worked += time.perf_counter() - start

    def share(self) -> float:
        """Waiting as a share of both since the last call."""
        whole = self._waited + self._worked
        share = self._waited / whole if whole else 0.0
        self._waited = self._worked = 0.0
        return share
