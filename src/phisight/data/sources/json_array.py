"""JSON arrays of records, read record by record: what is held is one record, whatever the file holds.

A record that is no JSON, or is longer than may be read, is malformed; the records behind it are rows all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from phisight.core.errors import SourceError
from phisight.data.sources.bounds import MAX_BYTES
from phisight.data.sources.tables import JsonLinesSource, flat

_CHUNK = 1_000_000
_NEAR_THE_END = 16
"""A syntax error so close to the end of what is in memory may only mean that there is more to read."""
_SPACE = re.compile(r"[\s,]*")
_TOKEN = re.compile(r'["\\{}\[\],]')


class JsonArraySource(JsonLinesSource):
    """A JSON array of objects; names and types of the columns as in JSON Lines."""

    kind = "json"

    def objects(self) -> Iterator[dict[str, Any] | str]:
        """The object of each record, or the reason why it is none."""
        for value in self.values():
            if isinstance(value, dict):
                yield flat(value)
            else:
                yield value if isinstance(value, _Unread) else f"a JSON {type(value).__name__} where an object is due"

    def values(self) -> Iterator[Any]:
        """What stands in the array, as Python has it; ``_Unread`` where it cannot be read."""
        try:
            with self.path.open(encoding=_encoding(self.path), errors="surrogateescape") as file:
                yield from _Array(file, self.max_bytes).values()
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error


def is_array(path: Path) -> bool:
    """Whether a file begins like a JSON array."""
    with path.open(encoding=_encoding(path), errors="replace") as file:
        while start := file.read(_CHUNK):
            if start.strip():
                return start.lstrip().startswith("[")
    return False


def first_value(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The first value of a JSON array; none where there is none."""
    with path.open(encoding=_encoding(path), errors="surrogateescape") as file:
        return next(_Array(file, max_bytes).values(), None)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        found = json.detect_encoding(file.read(4))
    return "utf-8-sig" if found == "utf-8" else found


class _Unread(str):
    """Why a record cannot be read."""

    __slots__ = ()


class _Array:
    """The values of an array, from a window of the file."""

    def __init__(self, file: IO[str], most: int) -> None:
        self._file, self._most = file, most
        self._window, self._at, self._ended = "", 0, False
        self._too_long = f"a record of more than {most} characters; --max-bytes"

    def values(self) -> Iterator[Any]:
        """One after the other; the window never holds much more than one of them."""
        decoder = json.JSONDecoder()
        self._skip_space("[")
        while self._skip_space():
            if self._window[self._at] == "]":
                self._at += 1
                if self._skip_space():
                    yield _Unread("more stands behind the end of the array: one JSON value a file")
                return
            yield self._value(decoder)
        yield _Unread("the file ends inside the array")

    def _value(self, decoder: json.JSONDecoder) -> Any:
        while True:
            try:
                value, end = decoder.raw_decode(self._window, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                cut, long = self._is_cut(error), len(self._window) - self._at > self._most
                if cut and not long and self._read():
                    continue
                reason = self._too_long if cut and long else f"no JSON: {str(error)[:80]}"
                self._skip_value()
                return _Unread(reason)
            if end == len(self._window) and isinstance(value, int | float) and self._read():
                continue  # a number may go on
            text, self._at = self._window[self._at : end], end
            if len(text) > self._most:
                return _Unread(self._too_long)
            if not _is_text(text):
                return _Unread("bytes that are no UTF-8; save the file as UTF-8")
            return value

    def _is_cut(self, error: Exception) -> bool:
        """Whether an error may come from the end of the window alone."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._window) - _NEAR_THE_END

    def _skip_value(self) -> None:
        """Go behind the next comma of the array itself, or to its end; strings and nested values are passed over."""
        depth, inside = 0, False
        while True:
            while found := _TOKEN.search(self._window, self._at):
                sign, self._at = found[0], found.end()
                if sign == "\\":
                    self._at += 1
                elif sign == '"':
                    inside = not inside
                elif not inside and sign in "{[":
                    depth += 1
                elif not inside and sign == "]" and not depth:
                    self._at -= 1
                    return
                elif not inside and sign in "]}":
                    depth = max(0, depth - 1)
                elif not inside and not depth:
                    return
            self._at = max(self._at, len(self._window))
            if not self._read():
                return

    def _skip_space(self, first: str = "") -> bool:
        """Whether something stands behind white space (and ``first``); at it."""
        while True:
            found = _SPACE.match(self._window, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._window):
                if first and self._window[self._at] == first:
                    self._at, first = self._at + 1, ""
                    continue
                return True
            if not self._read():
                return False

    def _read(self) -> bool:
        """Let go what was read and read more; whether there was more. The window doubles while it is too small."""
        more = "" if self._ended else self._file.read(max(_CHUNK, len(self._window) - self._at))
        self._ended = not more
        over = max(0, self._at - len(self._window))
        self._window = self._window[self._at :] + more
        self._at = over
        return bool(more)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
