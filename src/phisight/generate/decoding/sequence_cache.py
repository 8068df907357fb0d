"""A static key-value cache whose rows hold one sequence each, with a length of its own.

    keys, values [S, H, L, d] of each layer; rows 0..active-1 are in use
    a step writes one key at each row's own position; attention sees the rows in use up to the longest of them

A sequence joins by copying what its prompt left in an ordinary cache, and leaves by the last row taking its place.

S rows, H key-value heads, L positions, d head width, B prompts, T tokens of the longest prompt
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

ROOM = 64
"""Positions are made in multiples of this."""


class SequenceLayer(CacheLayerMixin):
    """Keys and values of one layer."""

    def __init__(self, owner: SequenceCache) -> None:
        super().__init__()
        self._owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Room for every row, of the kind of the given states."""
        shape = (self._owner.max_sequences, key_states.shape[1], self._owner.length)
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write states [n, H, 1, d] at each row's position; returns what a step attends to."""
        owner = self._owner
        assert self.keys is not None
        assert self.values is not None
        self.keys[owner.rows, :, owner.positions] = key_states[:, :, 0]
        self.values[owner.rows, :, owner.positions] = value_states[:, :, 0]
        count = len(owner.positions)
        return self.keys[:count, :, : owner.seen], self.values[:count, :, : owner.seen]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - the library's
        """Positions that a step attends to, from the first on."""
        return self._owner.seen, 0

    def get_seq_length(self) -> int:
        """Positions in use."""
        return self._owner.seen

    def get_max_length(self) -> int:
        """Positions there is room for."""
        return self._owner.length

    def grow(self, length: int) -> None:
        """More room, with what is there kept."""
        if self.keys is not None and self.values is not None:
            self.keys = _longer(self.keys, length)
            self.values = _longer(self.values, length)


class SequenceCache(Cache):
    """Slots over all layers of a decoder.

    Args:
        max_sequences: Most sequences at once.
        length: Positions to begin with; more are made when a longer sequence joins.
    """

    def __init__(self, max_sequences: int, length: int = ROOM) -> None:
        super().__init__(layers=[])
        self.max_sequences = max_sequences
        self.length = length
        self.active = 0
        self.seen = 0
        """Positions that the next step attends to."""
        self._every: Tensor = torch.zeros(0, dtype=torch.int64)
        self.rows: Tensor = self._every
        self.positions: Tensor = torch.zeros(0, dtype=torch.int64)

    def join(self, prompts: Cache, lengths: Sequence[int], room: int) -> None:
        """Copy left-padded prompts [B, H, T, d] of the given lengths into the next free rows.

        ``room``: Positions that the longest of them may reach.
        """
        first, last = self.active, self.active + len(lengths)
        assert last <= self.max_sequences, f"{last} sequences in {self.max_sequences} rows"
        if room > self.length:
            self._grow(room)
        while len(self.layers) < len(prompts.layers):
            self.layers.append(SequenceLayer(self))
        for own, given in zip(self.layers, prompts.layers, strict=True):
            assert isinstance(own, SequenceLayer)
            if not own.is_initialized:
                own.lazy_initialization(given.keys, given.values)
            for mine, theirs in ((own.keys, given.keys), (own.values, given.values)):
                aligned = _left_aligned(theirs, lengths)
                mine[first:last, :, : aligned.shape[2]] = aligned
        self.active = last

    def leave(self, row: int) -> int:
        """Free a row; the last one in use takes its place. Returns the number of that one."""
        last = self.active - 1
        if row != last:
            for layer in self.layers:
                layer.keys[row] = layer.keys[last]
                layer.values[row] = layer.values[last]
        self.active = last
        return last

    def at(self, positions: Tensor, seen: int) -> None:
        """Say where the next step writes: positions int64[n] of the first n rows, each below ``seen``.

        A step may have more rows than are in use: what it writes into those is overwritten by who joins.
        """
        if len(self._every) != self.max_sequences:
            self._every = torch.arange(self.max_sequences, device=positions.device)
        self.rows, self.positions, self.seen = self._every[: len(positions)], positions, seen

    def _grow(self, room: int) -> None:
        self.length = -(-room // ROOM) * ROOM
        for layer in self.layers:
            assert isinstance(layer, SequenceLayer)
            layer.grow(self.length)


def _left_aligned(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Left-padded states [B, H, T, d] with each sequence from position 0 on; what lies behind one is never seen."""
    width = states.shape[2]
    if all(length == width for length in lengths):
        return states
    gaps = torch.tensor([width - length for length in lengths], device=states.device)
    index = (torch.arange(width, device=states.device)[None] + gaps[:, None]).clamp(max=width - 1)
    return states.gather(2, index[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))


def _longer(states: Tensor, length: int) -> Tensor:
    grown = states.new_zeros(*states.shape[:2], length, states.shape[3])
    grown[:, :, : states.shape[2]] = states
    return grown
