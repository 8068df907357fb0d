"""A source with one image a row: rows that hold several become as many rows, with the same fields and key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from phisight.data.sources.arrow import STORED_IMAGE, column_of, is_embedded, numbers_of, stored_image
from phisight.data.sources.base import MalformedRow, Source, SourceBatch, WrappedSource
from phisight.data.sources.products.image_cells import images_in


def with_one_image_a_row(source: Source, image: str, further: Sequence[str] = ()) -> Source:
    """The source itself where its image column holds one file each, as bytes; else a source that divides."""
    if not further and is_embedded(source.schema.field(image).type):
        return source
    return ImageRows(source, [image, *further])


class ImageRows(WrappedSource):
    """Rows of another source, one for each image of its image columns; a row without any stays one row.

    Numbers are those of the new rows; ``origins`` are the source's.
    """

    def __init__(self, source: Source, images: Sequence[str]) -> None:
        super().__init__(source)
        self._images = list(images)
        at = source.schema.get_field_index(images[0])
        stored = any(_holds_bytes(source.schema.field(name).type) for name in images)
        self._kind = STORED_IMAGE if stored else pa.string()
        self.schema = source.schema.set(at, pa.field(images[0], self._kind))
        self.image_column = images[0]
        self._divided = 0

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """How many rows held several images so far."""
        if not self._divided:
            return []
        return [f"{self._divided} rows hold several images: each image is a row with their fields; --images-per-key 1"]

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""
        done = self._divided = 0
        for batch in self._source.batches():
            columns = [batch.table[name].to_pylist() for name in self._images]
            found = [_distinct([image for cell in cells for image in images_in(cell)]) for cells in zip(*columns)]  # noqa: B905
            self._divided += sum(len(images) > 1 for images in found)
            bad = sorted(batch.malformed, key=lambda one: one.number)
            malformed: list[MalformedRow] = []
            positions: list[int] = []
            cells: list[Any] = []
            numbers: list[int] = []
            for at, (number, images) in enumerate(zip(batch.numbers, found, strict=True)):
                while bad and bad[0].number < number:
                    done += 1
                    malformed.append(MalformedRow(done, bad[0].reason, bad.pop(0).number))
                for image in images or [None]:
                    done += 1
                    positions.append(at)
                    cells.append(image)
                    numbers.append(done)
            for one in bad:
                done += 1
                malformed.append(MalformedRow(done, one.reason, one.number))
            table = batch.table
            if len(positions) > len(batch.numbers):
                table = table.take(numbers_of(positions, pa.int64()))
            origins = [batch.numbers[at] for at in positions]
            yield SourceBatch(self._with(table, cells), numbers, malformed, origins)

    def _with(self, table: pa.Table, cells: list[Any]) -> pa.Table:
        at = table.schema.get_field_index(self._images[0])
        if pa.types.is_struct(self._kind):
            column = pa.array([stored_image(cell) for cell in cells], self._kind)
        else:
            column = column_of(cells, pa.string())
        return table.set_column(at, self.schema.field(at), pa.chunked_array([column]))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _holds_bytes(kind.value_type)
    return is_embedded(kind)


def _distinct(images: list[Any]) -> list[Any]:
    """The images without texts that stand twice."""
    seen: set[str] = set()
    found = []
    for image in images:
        if isinstance(image, str):
            if image in seen:
                continue
            seen.add(image)
        found.append(image)
    return found
