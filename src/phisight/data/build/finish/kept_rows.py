"""The kept rows as the second half of a build sees them: numbers in arrays, about 150 bytes a row.

Texts stay in the journal on disk. What is compared (keys, groups, categories) comes as ranks in the order of the texts,
what names a picture as the first half of its SHA-256.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from phisight.data.build.plan.groups import Groups
from phisight.data.build.work.journal import Journal, StagedRow
from phisight.data.images.phash import near_duplicates
from phisight.data.images.rejection import StoredImage

DIGEST = np.dtype("S16")
"""Half of a SHA-256, or a digest of that length."""


@dataclass(frozen=True)
class KeptRows:
    """Arrays over the kept rows in source order; K rows."""

    numbers: np.ndarray
    """int64[K]: row of the source."""
    prices: np.ndarray
    """float64[K]: nan where there is none."""
    pictures: np.ndarray
    """DIGEST[K]: equal for the very same picture."""
    prints: np.ndarray
    """DIGEST[K]: equal for equal fingerprints."""
    phashes: np.ndarray
    """uint64[K]."""
    colours: np.ndarray
    """uint8[K, 48]."""
    keys: np.ndarray
    """int32[K]: rank of the key, from 1; equal for equal keys."""
    groups: np.ndarray
    """int32[K]: likewise, of the group the source asks for."""
    categories: np.ndarray
    """int32[K]: likewise, of the category; 0 where there is none."""

    def __len__(self) -> int:
        return len(self.numbers)

    def grouped(self, near_too: bool) -> tuple[np.ndarray, np.ndarray]:
        """What must stay together, and what has a near-duplicate.

        int64[K]: for each row the one with the smallest key among those it is grouped with; bool[K].
        """
        groups = Groups(len(self))
        groups.join_equal(self.groups)
        groups.join_equal(self.keys)
        near = np.zeros(len(self), dtype=bool)
        if near_too:
            groups.join_equal(self.pictures)
            groups.join_equal(self.prints)
            near = self._join_near(groups)
        return groups.leaders(self.keys), near

    def _join_near(self, groups: Groups) -> np.ndarray:
        """Join near-duplicates, looking at every fingerprint once; bool[K]: has one that is another file."""
        _, first, inverse = np.unique(self.prints, return_index=True, return_inverse=True)
        near = np.zeros(len(first), dtype=bool)
        near[inverse[self.pictures != self.pictures[first][inverse]]] = True
        for one, two in near_duplicates(self.phashes[first], self.colours[first]):
            groups.join(int(first[one]), int(first[two]))
            near[one] = near[two] = True
        found: np.ndarray = near[inverse]
        return found


class KeptCollector:
    """Takes kept rows one by one; ``finish`` gives the arrays."""

    def __init__(self) -> None:
        self._numbers, self._prices, self._phashes = array("q"), array("d"), array("Q")
        self._pictures, self._prints, self._colours = bytearray(), bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, row: StagedRow, image: StoredImage) -> None:
        """The next row."""
        colours = bytes.fromhex(image.colours)
        self._numbers.append(row.number)
        self._prices.append(float("nan") if row.price is None else row.price)
        self._phashes.append(int(image.phash, 16))
        self._pictures += bytes.fromhex(image.sha256[:32])
        self._prints += blake2b(image.phash.encode() + colours, digest_size=16).digest()
        self._colours += colours

    def finish(self, journal: Journal) -> KeptRows:
        """The arrays, with the ranks of the journal's texts."""
        numbers = np.frombuffer(self._numbers, dtype=np.int64)
        return KeptRows(
            numbers,
            np.frombuffer(self._prices, dtype=np.float64),
            np.frombuffer(self._pictures, dtype=DIGEST),
            np.frombuffer(self._prints, dtype=DIGEST),
            np.frombuffer(self._phashes, dtype=np.uint64),
            np.frombuffer(self._colours, dtype=np.uint8).reshape(len(numbers), 48),
            journal.ranks("key")[numbers],
            journal.ranks("grouped")[numbers],
            journal.ranks("category")[numbers],
        )
