"""How much of a source is held in memory at once: bounded before it is read, whatever the file unfolds to.

CSV, JSON Lines   a line longer than MAX_BYTES is skipped and named
Parquet           rows of a batch by what they may unfold to; a row larger than MAX_BYTES is skipped and named; chunks
                  above it that no table compresses like are refused
Excel             a workbook that unfolds, or whose repeated text unfolds, to 10 times MAX_BYTES is refused
tar               a member larger than MAX_BYTES is skipped and named; headers are small
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

import pyarrow as pa

from phisight.core.errors import SourceError
from phisight.data.sources.base import BATCH_ROWS

MAX_BYTES = 50_000_000
"""Most bytes of one row, unless ``--max-bytes`` says otherwise."""
MAX_FILE_BYTES = 2_000_000_000
"""Most bytes of a file that is read as a whole (JSON)."""
BATCH_BYTES = 64_000_000
MOST_UNFOLDED = 100
"""A Parquet column chunk above the bytes of one row is no table where it is a hundredth of that in the file."""


def capped_lines(file: IO[AnyStr], most: int) -> Iterator[AnyStr | None]:
    """The lines of a file; None for one of more than ``most`` characters or bytes, which is skipped."""
    while line := file.readline(most + 1):
        if len(line) <= most or line[-1:] in ("\n", b"\n", "\r"):
            yield line
            continue
        while (rest := file.readline(most + 1)) and rest[-1:] not in ("\n", b"\n", "\r"):
            pass
        yield None


def batch_rows(group: Any, path: Path, max_bytes: int = MAX_BYTES) -> int:
    """Rows of a row group that may be unfolded at once; SourceError for one that unfolds like no table.

    ``group`` is pyarrow's RowGroupMetaData. A chunk with a dictionary may repeat its largest value in every row.
    """
    worst = 1.0
    for at in range(group.num_columns):
        chunk = group.column(at)
        plain, packed = chunk.total_uncompressed_size, max(1, chunk.total_compressed_size)
        if plain > max_bytes and plain > MOST_UNFOLDED * packed:
            raise SourceError(
                f"{path}: column {chunk.path_in_schema!r} unfolds from {packed} to {plain} bytes, more than "
                f"{MOST_UNFOLDED} times and than the {max_bytes} allowed for a row; the file is damaged or made to "
                "fill the memory; raise --max-bytes where it is meant so"
            )
        values = max(1.0, chunk.num_values / max(1, group.num_rows))
        worst += plain / max(1, group.num_rows)
        if chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY":
            start = chunk.dictionary_page_offset or 0
            dictionary = max(0, chunk.data_page_offset - start) if start else packed
            worst += values * min(plain, (plain / packed + 1) * dictionary)
    return max(1, min(BATCH_ROWS // 4, int(BATCH_BYTES / worst)))


def readable_text(table: pa.Table) -> pa.Table:
    """The table with text that is no UTF-8 repaired (what cannot be read becomes U+FFFD)."""
    for at, column in enumerate(table.schema):
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            continue
        try:
            table.column(at).validate(full=True)
        except pa.ArrowInvalid:
            raw = table.column(at).cast(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
            texts = [None if value is None else value.decode("utf-8", "replace") for value in raw.to_pylist()]
            table = table.set_column(at, column, pa.chunked_array([pa.array(texts, column.type)]))
    return table


class CappedReader:
    """A file for ``tarfile`` that refuses to read more than ``most`` bytes at once: no header is that long."""

    def __init__(self, file: IO[bytes], most: int, path: Path) -> None:
        self._file = file
        self._most = most
        self._path = path

    def read(self, size: int = -1) -> bytes:
        """At most ``most`` bytes."""
        if size < 0 or size > self._most:
            raise SourceError(f"{self._path}: a header asks for {size} bytes; the file is damaged")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As a file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As a file does."""
        return self._file.tell()


_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def open_packed(path: Path) -> IO[bytes]:
    """A file, unpacked while it is read where it is gzip, bzip2 or xz."""
    with path.open("rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    opened: IO[bytes] = path.open("rb") if opener is None else opener(path)
    return opened
