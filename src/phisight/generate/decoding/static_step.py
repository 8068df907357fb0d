"""One step of decoding over buffers that stay where they are: a GPU records it once and replays it.

    tokens, positions --copied into--> buffers --> mask --> model over the cache's rows --> logits [n, V]

A step that is started kernel by kernel waits for the host; a recorded one does not, but holds the addresses and shapes
it was recorded with. So a recorded step has a few sizes only, those that come up often: rows in powers of two,
positions in whole blocks. Rows that are not in use compute for nobody. On a CPU a step has exactly the rows and
positions in use.

S rows, n rows of a step, L positions, V vocabulary, D width
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from phisight.generate.decoding.sequence_cache import SequenceCache

BLOCK = 256
"""Recorded steps see a multiple of this many positions."""
MOST_RECORDED = 32
"""Recorded steps that are kept."""
RECORD_AFTER = 16
"""Steps of a size that are started kernel by kernel before it is recorded: recording takes as long as some of them."""

Outputs = tuple[Tensor, Tensor | None]
"""Logits [n, V] and, where they are read, the hidden states that they come from [n, D]."""
Forward = Callable[[Tensor, Tensor, Tensor], Outputs]
"""Ids int64[n, 1], mask float[n, 1, 1, seen], positions int64[n, 1] to outputs; keys and values go into the cache."""
Step = Callable[[], Outputs]
Record = Callable[[Step], Step]
"""A step to one that does the same on the same buffers."""

_LOG = logging.getLogger(__name__)


class StaticStep:
    """Steps of all rows of a cache.

    Args:
        forward: The model with this cache.
        cache: Keys and values of the rows.
        device: Of the model.
        dtype: Of the mask.
        window: Positions that a token sees, itself included; None means all before it.
        record: Records steps; None means that each one runs anew.
    """

    def __init__(
        self,
        forward: Forward,
        cache: SequenceCache,
        *,
        device: torch.device,
        dtype: torch.dtype,
        window: int | None = None,
        record: Record | None = None,
    ) -> None:
        self._forward, self._cache, self._window, self._record = forward, cache, window, record
        self._inputs = torch.zeros(2, cache.max_sequences, dtype=torch.int64, device=device)
        self._sent = torch.zeros(2, cache.max_sequences, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._open = torch.zeros((), dtype=dtype, device=device)
        self._shut = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=device)
        self._columns = torch.zeros(0, dtype=torch.int64, device=device)
        self._mask = torch.zeros(0, dtype=dtype, device=device)
        self._recorded: OrderedDict[tuple[int, int], Step] = OrderedDict()
        self._asked: Counter[tuple[int, int]] = Counter()

    def __call__(self, tokens: Sequence[int], positions: Sequence[int]) -> Outputs:
        """Outputs of the rows in use, which the next call overwrites.

        Args:
            tokens: The last token of each row in use, in the cache's order.
            positions: Where each of them stands in its row.
        """
        count, seen = len(tokens), max(positions) + 1
        assert count == self._cache.active, f"{count} tokens for {self._cache.active} rows in use"
        self._make_room()
        self._sent[:, :count] = torch.tensor([tokens, positions])
        self._sent[:, count:] = 0
        self._inputs.copy_(self._sent, non_blocking=True)
        size = self._size_for(count, seen)
        self._asked[size] += 1
        if self._record is None or self._asked[size] <= RECORD_AFTER:
            return self._run(count, seen)
        logits, hidden = self._step_of(*size)()
        return logits[:count], None if hidden is None else hidden[:count]

    def _size_for(self, count: int, seen: int) -> tuple[int, int]:
        """Rows and positions of the recorded step that serves so many."""
        rows = min(self._cache.max_sequences, 1 << (count - 1).bit_length())
        return rows, min(self._cache.length, -(-seen // BLOCK) * BLOCK)

    def _make_room(self) -> None:
        """The buffers as long as the cache; what was recorded before the cache grew holds addresses that are gone."""
        length = self._cache.length
        if len(self._columns) == length:
            return
        self._columns = torch.arange(length, device=self._inputs.device)
        self._mask = self._mask.new_zeros(self._cache.max_sequences * length)
        self._recorded.clear()

    def _step_of(self, rows: int, seen: int) -> Step:
        """The recorded step of this size."""
        if (rows, seen) not in self._recorded:
            while len(self._recorded) >= MOST_RECORDED:
                self._recorded.popitem(last=False)
            assert self._record is not None
            self._recorded[rows, seen] = self._record(lambda: self._run(rows, seen))
        self._recorded.move_to_end((rows, seen))
        return self._recorded[rows, seen]

    def _run(self, rows: int, seen: int) -> Outputs:
        """A step of the first ``rows`` rows over the first ``seen`` positions, from what is in the buffers."""
        ids, positions = self._inputs[0, :rows, None], self._inputs[1, :rows, None]
        visible = self._columns[:seen] <= positions
        if self._window is not None:
            visible &= self._columns[:seen] > positions - self._window
        mask = self._mask[: rows * seen].view(rows, seen)
        torch.where(visible, self._open, self._shut, out=mask)
        self._cache.at(self._inputs[1, :rows], seen)
        return self._forward(ids, mask[:, None, None], positions)


def recorder_of(device: torch.device) -> Record | None:
    """What records steps on a device: CUDA graphs on a GPU of NVIDIA's, nothing elsewhere."""
    return CudaGraphs() if device.type == "cuda" else None


class CudaGraphs:
    """Records steps as CUDA graphs that share their memory: one is replayed at a time, and its outputs read at once."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step) -> Step:
        """``step`` recorded after two runs that warm its kernels up; itself where it cannot be recorded."""
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                outputs = step()
        except RuntimeError as error:
            _LOG.warning("steps of this model cannot be recorded (%s) and are started one by one", str(error)[:120])
            torch.cuda.synchronize()
            return step

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay
