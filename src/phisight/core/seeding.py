"""One seed for a run, a named seed for each consumer.

Two consumers never share a stream, so adding one (a dropout, a shuffle) leaves the others as they were.
"""

from __future__ import annotations

import hashlib


def named_seed(seed: int, *names: object) -> int:
    """A seed in [0, 2**63) for the consumer ``names`` of the run seed; equal on every machine and Python."""
    return int.from_bytes(_digest(seed, names)[:8], "big") >> 1


def hashed_fraction(seed: int, *names: object) -> float:
    """A number in [0, 1) fixed by the seed and the names alone: row-wise draws that need no stream."""
    return (int.from_bytes(_digest(seed, names)[:8], "big") >> 11) / (1 << 53)


def _digest(seed: int, names: tuple[object, ...]) -> bytes:
    text = "\x1f".join([str(seed), *map(str, names)])
    return hashlib.sha256(text.encode()).digest()
