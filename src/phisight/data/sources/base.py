"""What a source is: a fixed set of columns, and batches of rows with their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

BATCH_ROWS = 1024


@dataclass(frozen=True)
class MalformedRow:
    """A row that could not even be split into columns."""

    number: int
    reason: str
    origin: int | None = None
    """Row of the source where ``number`` counts images; None: the number."""


@dataclass(frozen=True)
class SourceBatch:
    """Some rows, in source order."""

    table: pa.Table
    """The source's columns; the image column holds text (path or URL), bytes, or struct<bytes, path>."""
    numbers: list[int]
    """Number of each row in the source, from 1."""
    malformed: list[MalformedRow] = field(default_factory=list)
    origins: list[int] | None = None
    """Where a row of the source gave several (one an image): the number of that row; None: the numbers."""


class Source(Protocol):
    """Rows with their types, streamed: reading twice gives the same rows. Sources inherit it for its defaults."""

    description: dict[str, Any]
    """For the card: kind and name, no path of the machine, no secret."""
    schema: pa.Schema
    """Columns and types of every batch."""
    root: Path | None
    """Folder that relative image paths start from; None means that the source has no local files."""
    image_column: str | None
    """Column with the image where the source knows it."""
    key_column: str | None
    """Column that names a row where the source knows it."""
    notes: Sequence[str] = ()
    """What was found out about the source while it was opened, a sentence each: delimiter, encoding, layout."""
    folder_notes: Sequence[str] = ()
    """What was left out of the folder that the source was found in, a sentence each."""
    asked_only: Sequence[str] = ()
    """Columns that are never guessed to be a field (the names of files)."""

    def count(self) -> int | None:
        """Rows, where that is cheap to know."""

    def batches(self) -> Iterator[SourceBatch]:
        """All rows in order."""


class WrappedSource(Source):
    """A source made of another one's rows: what is said of it stays, and a subclass gives columns and batches."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.description = source.description
        self.schema = source.schema
        self.root = source.root
        self.image_column = source.image_column
        self.key_column = source.key_column

    def count(self) -> int | None:
        """Rows of the source that it is made of."""
        return self._source.count()
