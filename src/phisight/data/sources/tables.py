"""JSON Lines, and what the table files share: names, types of whole columns, batches."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from phisight.core.errors import SourceError, some
from phisight.data.sources.arrow import table_of
from phisight.data.sources.base import BATCH_ROWS, MalformedRow, Source, SourceBatch
from phisight.data.sources.bounds import BATCH_BYTES, MAX_BYTES, capped_lines

_LONGEST_PREFACE = 20
"""Lines that may stand before a header."""


def file_description(kind: str, path: Path) -> dict[str, Any]:
    """Kind, name and content hash of a source file."""
    with path.open("rb") as file:
        return {"kind": kind, "name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check_names(names: list[str], path: Path) -> None:
    """SourceError when a column has no name or a name stands twice."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice or not names or any(not name.strip() for name in names):
        wrong = f"column {some(twice)} stands twice" if twice else "a column has no name"
        raise SourceError(f"{path}: {wrong} in the header ({some(names, 20)}); give every column a name of its own")


def header_at(records: Sequence[Sequence[str]], width: int) -> int:
    """Which record is the header: the first with more than one value, where the others have more."""
    for at, record in enumerate(records[:_LONGEST_PREFACE]):
        filled = sum(bool(cell.strip()) for cell in record)
        if filled > 1 or width == 1:
            return at
    return 0


def distinct_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names with one for each column without, and a number behind those that stand twice; what was done."""
    taken = set(names) - {""}
    found: list[str] = []
    seen: set[str] = set()
    changed = []
    for at, name in enumerate(names, start=1):
        new = name
        if not name or name in seen:
            base, number = (f"column_{at}", 1) if not name else (name, 2)
            new = base if not name else f"{base}_{number}"
            while new in taken:
                number += 1
                new = f"{base}_{number}"
            changed.append(f"column {at} {f'is called {name!r} again' if name else 'has no name'}: {new!r}")
        taken.add(new)
        seen.add(new)
        found.append(new)
    more = [f"... and {len(changed) - 3} more columns"] if len(changed) > 3 else []
    return found, [*changed[:3], *more]


class FileSource(Source):
    """What the table files share."""

    image_column: str | None = None
    key_column: str | None = None

    def __init__(self, path: Path, kind: str, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.root: Path | None = path.parent
        self.description = file_description(kind, path)


def batches_of_records(
    records: Iterable[dict[str, Any] | str], schema: pa.Schema, rows: int = BATCH_ROWS
) -> Iterator[SourceBatch]:
    """Batches from records in order; a record that is a string is the reason why a row is malformed."""
    good: list[dict[str, Any]] = []
    numbers: list[int] = []
    malformed: list[MalformedRow] = []
    size = 0
    for number, record in enumerate(records, start=1):
        if isinstance(record, str):
            malformed.append(MalformedRow(number, record))
        else:
            good.append(record)
            numbers.append(number)
            size += sum(map(_size, record.values()))
        if len(good) + len(malformed) >= rows or size >= BATCH_BYTES:
            yield SourceBatch(table_of(good, schema), numbers, malformed)
            good, numbers, malformed, size = [], [], [], 0
    if good or malformed:
        yield SourceBatch(table_of(good, schema), numbers, malformed)


def _size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return sum(map(_size, value)) if isinstance(value, list) else 8


class JsonLinesSource(FileSource):
    """One JSON object a line. Types hold for a whole column: mixed ones become text, lists JSON text.

    ``a.b`` names value b of a nested object a.
    """

    kind = "jsonl"

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(path, self.kind, max_bytes)
        types = column_types(self.objects())
        if not types:
            raise SourceError(f"{path} holds no JSON object; each record must be one, with the columns as its names")
        self.schema = pa.schema(types.items())

    def count(self) -> int | None:
        """Lines that hold something."""
        return sum(1 for _ in self.objects())

    def objects(self) -> Iterator[dict[str, Any] | str]:
        """The object of each line, or the reason why it is none."""
        try:
            with self.path.open("rb") as file:
                for line in capped_lines(file, self.max_bytes):
                    if line is None:
                        yield f"a line of more than {self.max_bytes} bytes; --max-bytes"
                    elif line.strip():
                        yield _json_object(line)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error

    def batches(self) -> Iterator[SourceBatch]:
        """All rows; a line that is no JSON object is malformed."""
        yield from batches_of_records(fitted(self.objects(), self.schema), self.schema)


def column_types(records: Iterable[dict[str, Any] | str]) -> dict[str, pa.DataType]:
    """Types that hold for whole columns of JSON values, by one pass over the records."""
    kinds: dict[str, set[str]] = {}
    for record in records:
        if isinstance(record, dict):
            for name, value in record.items():
                kinds.setdefault(name, set()).add(_json_kind(value))
    return {name: _json_type(found - {"null"}) for name, found in kinds.items()}


def fitted(records: Iterable[dict[str, Any] | str], schema: pa.Schema) -> Iterator[dict[str, Any] | str]:
    """Records with exactly the columns of the schema, in its types."""
    for record in records:
        if isinstance(record, str):
            yield record
        else:
            yield {field.name: _json_fit(record.get(field.name), field.type) for field in schema}


def _json_object(line: bytes) -> dict[str, Any] | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"no JSON: {str(error)[:80]}"
    return flat(value) if isinstance(value, dict) else f"a JSON {type(value).__name__} where an object is due"


def flat(record: Mapping[str, Any], depth: int = 5) -> dict[str, Any]:
    """A record with ``a.b`` for value b of the object a; a name that holds a point itself comes first."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict) and value and depth:
            inner = flat(value, depth - 1)
            found |= {f"{name}.{key}": part for key, part in inner.items() if f"{name}.{key}" not in record}
        else:
            found[name] = value
    return found


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "text"
    return "float" if isinstance(value, float) else "text"


def _json_type(kinds: set[str]) -> pa.DataType:
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds == {"int"}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {"int", "float"} else pa.string()


def _json_fit(value: Any, kind: pa.DataType) -> Any:
    if value is None or isinstance(value, str | bytes):
        return value
    if pa.types.is_string(kind):
        return json.dumps(value, ensure_ascii=False)
    return float(value) if pa.types.is_floating(kind) else value
