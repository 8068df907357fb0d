"""Image conditions: which image each row is shown - its own, another row's, one of another category, or none at all.

No row keeps its own image, nor one with the same content or of the same group, and where the split allows it none gets
an image with the same answer: else a model that looks would score on swapped images, too. ``same_grid`` swaps among
images that the model cuts into the same crops, so that nothing but their content tells them apart; a row whose grid no
other has keeps its own image there and is left out of comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from phisight.core.errors import EvaluationError, ImageError
from phisight.core.migrations import CONDITION_SEED
from phisight.core.seeding import named_seed
from phisight.core.task import Task
from phisight.evaluate.rows import EvalRow
from phisight.generate import ImageSource

Images = Literal["real", "shuffled", "same_grid", "blank", "mismatched"]
"""real: its own; shuffled: another row's; same_grid: another row's that gives the model the same crops; blank: plain
gray of the same size; mismatched: of another category."""
MODES: tuple[Images, ...] = ("real", "shuffled", "same_grid", "blank", "mismatched")
GridOf = Callable[[int, int], Hashable]
"""Width and height of an image to the grid of crops that a model makes of it."""


def possible_modes(
    rows: Sequence[EvalRow], task: Task, seed: int, grids: Sequence[Hashable] | None = None
) -> tuple[list[Images], dict[str, str]]:
    """Image conditions that these rows can be shown, and why the others cannot be had (one row, one category).

    Where all rows have one of ``grids``, shuffled images are of the same grid already: ``same_grid`` is neither
    possible nor refused.
    """
    possible: list[Images] = []
    refused: dict[str, str] = {}
    for images in MODES:
        if images == "same_grid" and len(set(grids or grids_of(rows))) == 1:
            continue
        try:
            shown_rows(rows, task, images, seed, grids)
        except EvaluationError as error:
            refused[images] = str(error)
        else:
            possible.append(images)
    return possible, refused


def grids_of(rows: Sequence[EvalRow], grid_of: GridOf = lambda width, height: (width, height)) -> list[Hashable]:
    """The grid of each row's images; of an image that cannot be used None."""

    def grid(size: tuple[int, int] | None) -> Hashable:
        try:
            return grid_of(*size) if size is not None else None
        except ImageError:
            return None

    return [tuple(grid(size) for size in row.sizes or map(_size, row.images)) for row in rows]


def shown_rows(
    rows: Sequence[EvalRow], task: Task, images: Images, seed: int, grids: Sequence[Hashable] | None = None
) -> list[int | None]:
    """For each row the row whose image it is shown; none for a blank one.

    ``grids`` are the crops that the model makes of each row's images; None means that images of one size are alike.

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
    groups = [row.group or row.key for row in rows]
    generator = np.random.default_rng(named_seed(seed, CONDITION_SEED, images))
    if images != "same_grid":
        return list(_apart(contents, groups, answers, generator))
    return list(_within_grids(grids or grids_of(rows), contents, groups, answers, generator))


def _within_grids(
    grids: Sequence[Hashable],
    contents: Sequence[Hashable],
    groups: Sequence[Hashable],
    answers: Sequence[Hashable],
    generator: np.random.Generator,
) -> list[int]:
    """Swaps among the rows of each grid; a row that finds no partner of another group keeps its own image."""
    members: dict[Hashable, list[int]] = {}
    for row, grid in enumerate(grids):
        members.setdefault(grid, []).append(row)
    result = list(range(len(grids)))
    for indices in members.values():
        shown, products, wanted = ([column[row] for row in indices] for column in (contents, groups, answers))
        if len(set(shown)) < 2 or len(set(products)) < 2:
            continue
        for row, other in zip(indices, _apart(shown, products, wanted, generator), strict=True):
            if groups[row] != groups[indices[other]]:
                result[row] = indices[other]
    swapped = sum(row != other for row, other in enumerate(result))
    if not swapped:
        raise EvaluationError(
            f"no two of the {len(members)} image grids belong to rows of two products, so images of one grid cannot be "
            "swapped; evaluate more rows"
        )
    return result


def _apart(
    contents: Sequence[Hashable],
    groups: Sequence[Hashable],
    answers: Sequence[Hashable],
    generator: np.random.Generator,
) -> list[int]:
    """A permutation that gives each row another image, of another group and with another answer if that can be had."""
    for columns in ([contents, groups, answers], [contents, answers], [contents, groups]):
        found = _exchange(columns, generator)
        if not any(column[row] == column[other] for column in columns for row, other in enumerate(found)):
            return found
    return _exchange([contents], generator)


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
    return list(rows[shown].recorded) if shown is not None else [_blank(image) for image in rows[row].images]


def _blank(path: Path) -> Callable[[], Image.Image]:
    def make() -> Image.Image:
        size = _size(path) or (336, 336)  # nothing of the row's image is shown, so it need not be there
        return Image.new("RGB", size, (127, 127, 127))

    return make


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height from the header alone; none where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
