"""Shopify's export: a product's further images stand in rows that carry only its handle and the image.

Handle,Title,Variant Price,Image Src
red-hat,Red hat,12.50,1.jpg
red-hat,,,2.jpg              belongs to the product above
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from phisight.data.sources.base import Source, SourceBatch, WrappedSource

_HANDLES, _IMAGES = ("handle", "url handle"), ("image src", "product image url")


def with_products_filled(source: Source) -> Source:
    """The source, its rows of further images filled from the product above where it is Shopify's export."""
    names = {name.casefold(): name for name in source.schema.names}
    handle = next((names[name] for name in _HANDLES if name in names), None)
    image = next((names[name] for name in _IMAGES if name in names), None)
    if handle is None or image is None or "title" not in names:
        return source
    return ShopifyRows(source, handle, names["title"])


class ShopifyRows(WrappedSource):
    """Rows without a title take all but the image from the last row with one and the same handle."""

    def __init__(self, source: Source, handle: str, title: str) -> None:
        super().__init__(source)
        self._handle, self._title = handle, title
        self._own = [name for name in source.schema.names if not name.casefold().startswith(("image", "product image"))]
        self.filled = 0
        """Rows so far that took their fields from the product above."""

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """How many rows were filled."""
        return [f"{self.filled} rows without a title belong to the product above (Shopify's export)"]

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        self.filled = 0
        above: dict[str, Any] = {}
        for batch in self._source.batches():
            columns = {name: batch.table[name].to_pylist() for name in self._own}
            for at, handle in enumerate(columns[self._handle]):
                if _is_empty(columns[self._title][at]):
                    if handle and above.get(self._handle) == handle:
                        self.filled += 1
                        for name in self._own:
                            columns[name][at] = above[name]
                else:
                    above = {name: columns[name][at] for name in self._own}
            arrays = [
                pa.chunked_array([pa.array(columns[field.name], field.type)])
                if field.name in columns
                else batch.table[field.name]
                for field in self.schema
            ]
            yield SourceBatch(
                pa.Table.from_arrays(arrays, schema=self.schema), batch.numbers, batch.malformed, batch.origins
            )


def _is_empty(cell: Any) -> bool:
    return cell is None or not str(cell).strip()
