"""Which rows belong together: one product, one image, or nearly one image.

Rows of a group always land in the same split; a product or an image on both sides would let a model answer from
memory. Groups are joined with a union-find over row positions and named after their smallest key, so that the name
depends on the rows alone and not on their order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from phisight.core.errors import SettingsError


@dataclass(frozen=True)
class GroupRule:
    """How a row's group is read off its values.

    Without patterns the value of ``column`` (default: the key) is the group. With patterns the first one that is found
    in the value gives it: what its brackets caught, or the whole match; a value that fits none is a group of its own.
    """

    column: str | None = None
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise SettingsError(f"--group-regex {pattern!r} is no regular expression: {error}") from error

    def group_of(self, value: str) -> str:
        """The group a value stands for."""
        for number, pattern in enumerate(self.patterns):
            match = re.search(pattern, value)
            if match:
                caught = "".join(part for part in match.groups() if part) or match[0]
                return f"{caught}\x1f{number}"
        return value


class Groups:
    """Union-find over ``count`` positions, halving paths."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int64)

    def find(self, at: int) -> int:
        """The representative of a position."""
        parent = self._parent
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = int(parent[at])
        return at

    def join(self, one: int, two: int) -> None:
        """Put two positions into one group."""
        first, second = self.find(one), self.find(two)
        if first != second:
            self._parent[max(first, second)] = min(first, second)

    def join_equal(self, values: np.ndarray) -> None:
        """Put positions with equal values into one group."""
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        earliest = first[inverse]
        for at in np.flatnonzero(earliest != np.arange(len(values))).tolist():
            self.join(int(earliest[at]), at)

    def leaders(self, ranks: np.ndarray) -> np.ndarray:
        """int64[count]: for each position the one of smallest rank in its group (of equal ones the first)."""
        roots = self._parent
        while not np.array_equal(roots, above := roots[roots]):
            roots = above
        order = np.lexsort((ranks, roots))
        begins = np.flatnonzero(np.r_[True, roots[order][1:] != roots[order][:-1]])
        leader_of_root = np.zeros_like(roots)
        leader_of_root[roots[order[begins]]] = order[begins]
        found: np.ndarray = leader_of_root[roots]
        return found
