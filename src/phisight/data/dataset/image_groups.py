"""Rows of one product to one example with several pictures.

    key  picture        key  pictures
    A    front.jpg      A    front.jpg, back.jpg
    A    back.jpg   ->  B    one.jpg
    B    one.jpg

A joined row is the product's first row with the rows of all its pictures under ``PICTURES``, in table order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from phisight.core.errors import DataError, some

PICTURES = "pictures"

Row = Mapping[str, Any]


class Products(NamedTuple):
    """Joined rows, and how many pictures were over the limit of their product."""

    rows: list[dict[str, Any]]
    left_over: int


def join_pictures(rows: Sequence[Row], key: str, fields: Sequence[str], most: int) -> Products:
    """One row a product, each with its first ``most`` pictures; one row a picture where ``most`` is 1.

    DataError when the rows of a product differ in a field of the answer: which of them would be the truth?
    """
    if most == 1:
        return Products([dict(row) for row in rows], 0)
    products: dict[Any, list[Row]] = {}
    for row in rows:
        products.setdefault(row[key], []).append(row)
    for name, pictures in products.items():
        _require_one_truth(name, pictures, fields)
    joined = [{**pictures[0], PICTURES: [dict(one) for one in pictures[:most]]} for pictures in products.values()]
    return Products(joined, sum(max(0, len(pictures) - most) for pictures in products.values()))


def pictures_of(row: Row) -> Sequence[Row]:
    """The rows of a product's pictures; a row that was not joined is its own only one."""
    pictures: Sequence[Row] = row.get(PICTURES) or [row]
    return pictures


def _require_one_truth(name: object, pictures: Sequence[Row], fields: Sequence[str]) -> None:
    for field in fields:
        values = list(dict.fromkeys(repr(row.get(field)) for row in pictures))
        if len(values) > 1:
            raise DataError(
                f"the {len(pictures)} rows of {name!r} differ in {field!r} ({some(values)}): they have no one "
                "answer; mend the table, or set data.images to 1"
            )
