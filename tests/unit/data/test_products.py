"""Rows of one product to one example."""

from typing import Any

import pytest

from phisight.core.errors import DataError
from phisight.data.dataset.image_groups import images_of, join_images

ROWS: list[dict[str, Any]] = [
    {"code": "A", "file_name": "front.jpg", "title": "Scarf"},
    {"code": "B", "file_name": "one.jpg", "title": "Hat"},
    {"code": "A", "file_name": "back.jpg", "title": "Scarf"},
    {"code": "A", "file_name": "side.jpg", "title": "Scarf"},
]


def names(row: dict[str, Any]) -> list[str]:
    return [one["file_name"] for one in images_of(row)]


def test_images_of_a_product_go_together_in_table_order() -> None:
    products = join_images(ROWS, "code", ["title"], 4)
    assert [(row["code"], names(row)) for row in products.rows] == [
        ("A", ["front.jpg", "back.jpg", "side.jpg"]),
        ("B", ["one.jpg"]),
    ]
    assert products.left_over == 0


def test_images_over_the_limit_are_counted() -> None:
    products = join_images(ROWS, "code", ["title"], 2)
    assert names(products.rows[0]) == ["front.jpg", "back.jpg"]
    assert products.left_over == 1


def test_one_image_an_example_leaves_the_rows_as_they_are() -> None:
    products = join_images(ROWS, "code", ["title"], 1)
    assert products.rows == ROWS
    assert names(products.rows[2]) == ["back.jpg"]


def test_rows_that_disagree_have_no_one_answer() -> None:
    rows = [*ROWS, {"code": "B", "file_name": "two.jpg", "title": "Cap"}]
    with pytest.raises(DataError, match=r"the 2 rows of 'B' differ in 'title' \('Hat', 'Cap'\)"):
        join_images(rows, "code", ["title"], 2)
