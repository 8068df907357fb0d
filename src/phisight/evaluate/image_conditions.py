"""Which image each row is shown: its own, another row's, one of another category, or none at all.

No row keeps its own image, nor one with the same content, and where the split allows it none gets an image with the
same answer: else a model that looks would score on swapped images, too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from phisight.core.errors import EvaluationError
from phisight.core.migrations import CONDITION_SEED
from phisight.core.seeding import named_seed
from phisight.core.task import Task
from phisight.evaluate.rows import EvalRow
from phisight.generate import ImageSource

Images = Literal["real", "shuffled", "blank", "mismatched"]
"""real: its own; shuffled: another row's; blank: plain grey of the same size; mismatched: of another category."""
MODES: tuple[Images, ...] = ("real", "shuffled", "blank", "mismatched")


def possible_modes(rows: Sequence[EvalRow], task: Task, seed: int) -> tuple[list[Images], dict[str, str]]:
    """Kinds of images that these rows can be shown, and why the others cannot be had (one row, one category)."""
    possible: list[Images] = []
    refused: dict[str, str] = {}
    for images in MODES:
        try:
            shown_rows(rows, task, images, seed)
        except EvaluationError as error:
            refused[images] = str(error)
        else:
            possible.append(images)
    return possible, refused


def shown_rows(rows: Sequence[EvalRow], task: Task, images: Images, seed: int) -> list[int | None]:
    """For each row the row whose image it is shown; none for a blank one.

    Raises:
        EvaluationError: Fewer than two different images to swap, or no second category to take one from.
    """
    if images == "real":
        return list(range(len(rows)))
    if images == "blank":
        return [None] * len(rows)
    contents = [row.content or str(row.images) for row in rows]
    if len(set(contents)) < 2:
        raise EvaluationError(
            f"{len(rows)} rows with {len(set(contents))} different image cannot swap images; evaluate more rows"
        )
    answers: list[Hashable] = [tuple(row.truth.values()) for row in rows]
    if images == "mismatched":
        categories = task.of_kind("category")
        if not categories or len({row.truth[categories[0]] for row in rows}) < 2:
            raise EvaluationError("mismatched images need a category field with at least two values in the split")
        answers = [row.truth[categories[0]] for row in rows]
    generator = np.random.default_rng(named_seed(seed, CONDITION_SEED, images))
    apart = _exchange([contents, answers], generator)
    if any(contents[row] == contents[other] for row, other in enumerate(apart)):
        apart = _exchange([contents], generator)  # one answer rules the split: at least no row keeps its image
    return list(apart)


def _exchange(columns: Sequence[Sequence[Hashable]], generator: np.random.Generator) -> list[int]:
    """A permutation that gives each row one that differs in every column, as far as that can be had.

    Rows that share a value in some column form a group; groups are laid out one after the other in random order, the
    largest first, and everything moves on by the size of the largest.
    """
    groups = _groups(columns)
    sizes = np.bincount(groups)
    rank = generator.permutation(len(sizes))
    rank[sizes.argmax()] = -1
    shuffled = generator.permutation(len(groups))
    order = shuffled[np.argsort(rank[groups[shuffled]], kind="stable")]
    shift = int(sizes.max()) % len(groups) or 1
    result = np.empty(len(groups), dtype=np.int64)
    result[order] = np.roll(order, -shift)
    return [int(row) for row in result]


def _groups(columns: Sequence[Sequence[Hashable]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Group number int64[n] of each row: connected by equal values."""
    count = len(columns[0])
    left, right = [], []
    for column in columns:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(column):
            left.append(row)
            right.append(first.setdefault(value, row))
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def images_shown(rows: Sequence[EvalRow], row: int, shown: int | None) -> list[ImageSource]:
    """The images to show: files, or functions that make blanks of the sizes of the row's own."""
    return list(rows[shown].images) if shown is not None else [_blank(image) for image in rows[row].images]


def _blank(path: Path) -> Callable[[], Image.Image]:
    def make() -> Image.Image:
        try:
            with Image.open(path) as image:
                size = image.size
        except OSError:
            size = (336, 336)  # nothing of the row's image is shown, so it need not be there
        return Image.new("RGB", size, (127, 127, 127))

    return make
