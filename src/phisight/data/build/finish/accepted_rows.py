"""The accepted rows in the second half of a build: columns as arrays, about 150 bytes a row.

Texts stay in the journal on disk. What is compared (keys, groups, categories) is the rank in the order of the texts;
an image is the first half of its SHA-256.
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
class AcceptedRows:
    """Arrays over the accepted rows in source order; K rows."""

    numbers: np.ndarray
    """int64[K]: row of the source."""
    prices: np.ndarray
    """float64[K]: nan where there is none."""
    images: np.ndarray
    """DIGEST[K]: equal for the very same image."""
    prints: np.ndarray
    """DIGEST[K]: equal for equal fingerprints."""
    phashes: np.ndarray
    """uint64[K]."""
    colors: np.ndarray
    """uint8[K, 48]."""
    keys: np.ndarray
    """int32[K]: rank of the key, from 1; equal for equal keys."""
    groups: np.ndarray
    """int32[K]: likewise, of the group the source asks for."""
    categories: np.ndarray
    """int32[K]: likewise, of the category; 0 where there is none."""

    def __len__(self) -> int:
        return len(self.numbers)

    def grouped(self, near_too: bool, *, equal_files: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """What must stay together, and what has a near-duplicate.

        int64[K]: for each row the one with the smallest key among those it is grouped with; bool[K].
        """
        groups = Groups(len(self))
        groups.join_equal(self.groups)
        groups.join_equal(self.keys)
        near = np.zeros(len(self), dtype=bool)
        if near_too or equal_files:
            groups.join_equal(self.images)
        if near_too:
            groups.join_equal(self.prints)
            near = self._join_near(groups)
        return groups.leaders(self.keys), near

    def _join_near(self, groups: Groups) -> np.ndarray:
        """Join near-duplicates, looking at every fingerprint once; bool[K]: has one that is another file."""
        _, first, inverse = np.unique(self.prints, return_index=True, return_inverse=True)
        near = np.zeros(len(first), dtype=bool)
        near[inverse[self.images != self.images[first][inverse]]] = True
        for one, two in near_duplicates(self.phashes[first], self.colors[first]):
            groups.join(int(first[one]), int(first[two]))
            near[one] = near[two] = True
        found: np.ndarray = near[inverse]
        return found


class AcceptedCollector:
    """Collects the accepted rows one by one; ``arrays`` returns them as arrays."""

    def __init__(self) -> None:
        self._numbers, self._prices, self._phashes = array("q"), array("d"), array("Q")
        self._images, self._prints, self._colors = bytearray(), bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, row: StagedRow, image: StoredImage) -> None:
        """The next row."""
        colors = bytes.fromhex(image.colors)
        self._numbers.append(row.number)
        self._prices.append(float("nan") if row.price is None else row.price)
        self._phashes.append(int(image.phash, 16))
        self._images += bytes.fromhex(image.sha256[:32])
        self._prints += blake2b(image.phash.encode() + colors, digest_size=16).digest()
        self._colors += colors

    def arrays(self, journal: Journal) -> AcceptedRows:
        """The arrays, with the ranks of the journal's texts."""
        numbers = np.frombuffer(self._numbers, dtype=np.int64)
        return AcceptedRows(
            numbers,
            np.frombuffer(self._prices, dtype=np.float64),
            np.frombuffer(self._images, dtype=DIGEST),
            np.frombuffer(self._prints, dtype=DIGEST),
            np.frombuffer(self._phashes, dtype=np.uint64),
            np.frombuffer(self._colors, dtype=np.uint8).reshape(len(numbers), 48),
            journal.ranks("key")[numbers],
            journal.ranks("grouped")[numbers],
            journal.ranks("category")[numbers],
        )
