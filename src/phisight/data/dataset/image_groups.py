"""Rows of one product to one example with several images.

    key  image        key  images
    A    front.jpg      A    front.jpg, back.jpg
    A    back.jpg   ->  B    one.jpg
    B    one.jpg

A joined row is the product's first row with the rows of all its images under ``IMAGE_ROWS``, in table order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from phisight.core.dataset_folder import HEIGHT, WIDTH
from phisight.core.errors import DataError, some

IMAGE_ROWS = "__image_rows__"

Row = Mapping[str, Any]


class Products(NamedTuple):
    """Joined rows, and how many images were over the limit of their product."""

    rows: list[dict[str, Any]]
    left_over: int


def join_images(rows: Sequence[Row], key: str, fields: Sequence[str], most: int) -> Products:
    """One row a product, each with its first ``most`` images; one row an image where ``most`` is 1.

    DataError when the rows of a product differ in a field of the answer: which of them would be the truth?
    """
    if most == 1:
        return Products([dict(row) for row in rows], 0)
    products: dict[Any, list[Row]] = {}
    for row in rows:
        products.setdefault(row[key], []).append(row)
    for name, images in products.items():
        _require_one_truth(name, images, fields)
    joined = [{**images[0], IMAGE_ROWS: [dict(one) for one in images[:most]]} for images in products.values()]
    return Products(joined, sum(max(0, len(images) - most) for images in products.values()))


def images_of(row: Row) -> Sequence[Row]:
    """The rows of a product's images; a row that was not joined is its own only one."""
    images: Sequence[Row] = row.get(IMAGE_ROWS) or [row]
    return images


def recorded_sizes(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Width and height in pixels of each image of some rows, where the table records them."""
    images = [one for row in rows for one in images_of(row)]
    return [(int(one[WIDTH]), int(one[HEIGHT])) for one in images if one.get(WIDTH) and one.get(HEIGHT)]


def _require_one_truth(name: object, images: Sequence[Row], fields: Sequence[str]) -> None:
    for field in fields:
        values = list(dict.fromkeys(repr(row.get(field)) for row in images))
        if len(values) > 1:
            raise DataError(
                f"the {len(images)} rows of {name!r} differ in {field!r} ({some(values)}): they have no one "
                "answer; repair the table, or set data.images to 1"
            )
