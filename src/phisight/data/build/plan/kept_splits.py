"""Splits of a data set that rows are added to: its rows keep theirs, and so do their groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KeptSplits:
    """The splits of the first rows of the source."""

    splits: np.ndarray
    """uint8[K]: an index into SPLITS for rows 1 to K."""

    def assigned(
        self, numbers: np.ndarray, leaders: np.ndarray, deal: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """uint8[N]: the split of each row.

        ``numbers`` int[N] are rows of the source from 1, ``leaders`` int[N] the position of each row's group leader.
        A row of a known group follows the group's first kept row; ``deal`` gives the splits of the positions left.
        """
        old = numbers <= len(self.splits)
        kept = np.full(len(numbers), -1, dtype=np.int16)
        kept[old] = self.splits[numbers[old] - 1]
        of_group = np.full(len(numbers), -1, dtype=np.int16)
        at = np.flatnonzero(old)[::-1]
        of_group[leaders[at]] = kept[at]
        found = np.where(old, kept, of_group[leaders])
        fresh = np.flatnonzero(found < 0)
        if len(fresh):
            found[fresh] = deal(fresh)
        return found.astype(np.uint8)
