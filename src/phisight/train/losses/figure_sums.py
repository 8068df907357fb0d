"""What a loss measures beside itself, summed over micro-batches and averaged over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from phisight.train.distributed.process_group import gather_numbers
from phisight.train.losses.interface import COUNT


class FigureSums:
    """Sums on this rank since the last logged step, float64 by name; what they are divided by is among them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Add ``Computed.figures`` of a micro-batch."""
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def restore(self, sums: Mapping[str, float]) -> None:
        """Continue from the sums of a checkpoint."""
        self._sums = dict(sums)

    def clear(self) -> None:
        """Begin anew."""
        self._sums = {}

    def of_ranks(self) -> list[dict[str, float]]:
        """Sums of each rank; called by all of them."""
        names = sorted(self._sums)  # the same ones on every rank: a dummy example counts as none
        each = gather_numbers([float(self._sums[name]) for name in names]) if names else []
        return [dict(zip(names, one, strict=True)) for one in each]

    def means(self) -> dict[str, float]:
        """Means over all ranks; called by all of them."""
        each = self.of_ranks()
        sums = {name: sum(one[name] for one in each) for name in self._sums}
        count = sums.pop(COUNT, 0.0)
        return {name: value / count for name, value in sums.items()} if count else {}
