"""Columns of the finished table: those a build adds, and how the source's own are carried over."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from phisight.core.dataset_folder import FILE_NAME, GROUP, HEIGHT, SHA256, SPLIT, WIDTH
from phisight.core.errors import SourceError, some
from phisight.core.task import Task
from phisight.data.build.plan.columns import Columns
from phisight.data.images.rejection import StoredImage
from phisight.data.sources.arrow import is_embedded
from phisight.data.sources.base import Source
from phisight.data.values.typed_columns import arrow_type

NUMBER = "source_row"
"""int64: number of the row in the source, from 1."""
TOKEN = "source_token"  # noqa: S105 - a column
"""str: digest of the image's address, by which a second build recognizes it; empty for other images."""
ADDED = pa.schema(
    [
        (FILE_NAME, pa.string()),
        (SPLIT, pa.string()),
        (GROUP, pa.string()),
        (SHA256, pa.string()),
        (WIDTH, pa.int32()),
        (HEIGHT, pa.int32()),
        ("image_format", pa.string()),
        ("image_bytes", pa.int64()),
        ("image_phash", pa.string()),
        ("image_colours", pa.string()),
        ("image_notes", pa.string()),
        (NUMBER, pa.int64()),
        (TOKEN, pa.string()),
    ]
)
"""The columns a build adds to the source's own."""
_ADDED_NAMES = frozenset(ADDED.names)


@dataclass(frozen=True)
class AcceptedRow:
    """An accepted row with the columns a build adds."""

    number: int
    line: int
    """Number of the row in the source, where ``number`` counts images."""
    token: str
    image: StoredImage
    split: str
    group: str

    def added(self) -> dict[str, Any]:
        """Values of the added columns."""
        image = self.image
        return {
            FILE_NAME: image.file_name, SPLIT: self.split, GROUP: self.group, SHA256: image.sha256,
            WIDTH: image.width, HEIGHT: image.height, "image_format": image.format, "image_bytes": image.size,
            "image_phash": image.phash, "image_colours": image.colors, "image_notes": image.notes,
            NUMBER: self.line,
            TOKEN: self.token if self.token.startswith("url:") else "",
        }  # fmt: skip


def image_of(row: dict[str, Any]) -> StoredImage:
    """The image a finished table describes: the inverse of ``AcceptedRow.added``."""
    return StoredImage(
        file_name=row[FILE_NAME], sha256=row[SHA256], width=row[WIDTH], height=row[HEIGHT], format=row["image_format"],
        size=row["image_bytes"], phash=row["image_phash"], colors=row["image_colours"], notes=row["image_notes"],
    )  # fmt: skip


def carried_columns(source: Source, columns: Columns) -> dict[str, pa.Field]:
    """The source's columns that are carried over, by their name in the source.

    Embedded images are left out. A name the finished folder needs itself (the added columns; ``image``, under which
    the imagefolder loader gives the image; ``..._file_name``, which it would open) gets ``source_`` in front.
    Fields of the task that are no text get the type of their kind; columns of numbers stay numbers.
    """
    carried: dict[str, pa.Field] = {}
    for column in source.schema:
        if column.name == columns.image and is_embedded(column.type):
            continue
        if column.name in columns.task.fields and carried_name(column.name) != column.name:
            name = source.description.get("name", "the source")
            raise SourceError(
                f"column {column.name!r} of {name} cannot be a field: a built data set uses that name; rename it, or "
                "choose other fields with --field"
            )
        carried[column.name] = pa.field(carried_name(column.name), _carried_type(column, columns.task))
    names = [field.name for field in carried.values()]
    twice = [name for name, count in Counter(names).items() if count > 1 or name in _ADDED_NAMES]
    if twice:
        raise SourceError(f"column {some(sorted(set(twice)))} would stand twice in the table; rename it in the source")
    return carried


def carried_name(name: str) -> str:
    """What a source's column is called in the finished table."""
    if name in _ADDED_NAMES or name in ("image", "file_names"):
        return f"source_{name}".replace("source_file_name", "source_filename")
    return re.sub(r"_file_name(s?)$", r"_filename\1", name)


def _carried_type(column: pa.Field, task: Task) -> pa.DataType:
    field = task.fields.get(column.name)
    if field is None or field.rules.storage == "string":
        return column.type
    if field.kind != "number":
        return arrow_type(field)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return column.type if is_number else pa.float64()
