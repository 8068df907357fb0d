"""Another product's image for each pair: always a usable one, and in a time that grows with the rows."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from phisight.core.dataset_folder import GROUP
from phisight.data.dataset.preference_pairs import CHOSEN
from phisight.train.examples.pair_set import other_images

SHAPES: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "all different": lambda index, _: (index, index),
    "a large group": lambda index, n: (min(index, n // 50), index),
    "a frequent answer": lambda index, n: (index, min(index, n // 50)),
    "one row of another group": lambda index, _: (int(index == 3), index),
    "one row of another answer": lambda index, _: (index, int(index == 3)),
    "both": lambda index, n: (min(index, n // 60), min(index, n // 40)),
}
"""Group and answer of a row, of n."""


def drawn_rows(shape: str, number: int) -> list[dict[str, Any]]:
    codes = [SHAPES[shape](index, number) for index in range(number)]
    return [{GROUP: f"g{group}", CHOSEN: f"answer {answer}"} for group, answer in codes]


@contextlib.contextmanager
def counted_elements() -> Iterator[list[int]]:
    """Elements of all that is drawn and searched."""
    count, search = [0], np.flatnonzero

    class Counting(np.random.Generator):
        def integers(self, *args: Any, **settings: Any) -> Any:
            drawn = super().integers(*args, **settings)
            count[0] += np.size(drawn)
            return drawn

        def permutation(self, *args: Any, **settings: Any) -> Any:
            drawn = super().permutation(*args, **settings)
            count[0] += np.size(drawn)
            return drawn

    def counted_search(values: Any) -> Any:
        count[0] += np.size(values)
        return search(values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed: Counting(np.random.PCG64(seed)))
        patch.setattr(np, "flatnonzero", counted_search)
        yield count


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_grows_with_the_rows(shape: str) -> None:
    """Counted and not timed; rows that had to be searched one by one would take four times as much."""
    work = []
    for number in (2000, 4000):
        rows = drawn_rows(shape, number)
        with counted_elements() as count:
            found = other_images(rows, 0)
        work.append(count[0])
        others = [rows[index] for index in found]
        assert all(one[GROUP] != row[GROUP] for one, row in zip(others, rows, strict=True))
        assert all(one[CHOSEN] != row[CHOSEN] for one, row in zip(others, rows, strict=True))
    assert 4000 <= work[1] < 2.6 * work[0]


def test_every_usable_row_is_drawn_equally_often() -> None:
    """One pair among sixty, over seeds."""
    rows = [{GROUP: str(min(index, 50)), CHOSEN: str(index % 50 if index < 57 else index)} for index in range(60)]
    drawn = np.bincount([other_images(rows, seed)[55] for seed in range(600)], minlength=60)
    usable = [
        index for index, row in enumerate(rows) if row[GROUP] != rows[55][GROUP] and row[CHOSEN] != rows[55][CHOSEN]
    ]
    assert drawn[usable].sum() == 600
    assert drawn[usable].min() > 0
    assert drawn[usable].max() < 4 * 600 / len(usable)
