"""Answers on disk the moment they are there: what a killed prediction continues from.

    OUT.partial.jsonl   line 1   {"predict": {"model": ..., "weights": ..., "source": ...}}: what is predicted
                        then     {"row": 7, "image": "a.jpg", "cells": {...}} in the order in which answers end
                        last     {"finish": true}: all are there, the table is being written

Each line is written in one piece; a process that dies leaves at most one torn line, which the next one cuts off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from phisight.core.errors import SettingsError, StorageError
from phisight.core.read_files import parse_json
from phisight.track.jsonl import drop_torn_line

try:
    import fcntl
except ImportError:  # no such locks there
    fcntl = None  # type: ignore[assignment]


class AnswerLog:
    """The partial file of one prediction, held for this process alone.

    Args:
        path: OUT.partial.jsonl.
        identity: What is predicted, in words: rows are taken over only where all of it is the same.
        overwrite: Whether rows of another prediction, or of a source that has changed since, are given up.

    Raises:
        SettingsError: Another process writes it, or it holds rows of another prediction.
        StorageError: It cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, str], *, overwrite: bool = False) -> None:
        self.path = path
        self.finishing = False
        """Whether an earlier process had every answer and began to write the table."""
        self._rows: dict[int, int] = {}
        self._overwrite = overwrite
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab", buffering=0)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}; choose another --out") from error
        try:
            self._hold()
            self._continue(dict(identity), overwrite)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        """Rows that are there."""
        return len(self._rows)

    def _hold(self) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"another process predicts into {self.path}; wait for its end, stop it, or choose another --out"
            ) from None

    def _continue(self, identity: dict[str, str], overwrite: bool) -> None:
        """Rows of an earlier process; the first line where there is none."""
        drop_torn_line(self.path)
        lines = self.lines()
        first = next(lines, (0, None))[1]
        if first is not None:
            found = first.get("predict")
            if found == identity:
                for _, line in lines:
                    if "row" in line:
                        row = self._row_of(line)
                        self._rows[row] = hash(line["image"])
                    self.finishing = self.finishing or "finish" in line
                return
            if not overwrite:
                raise SettingsError(
                    f"{self.path} holds answers of another prediction ({_differences(found, identity)}); give its "
                    "command again to finish it, choose another --out, or start anew with --overwrite"
                )
            self._file.truncate(0)
        self._append({"predict": identity})

    def _row_of(self, line: Mapping[str, Any]) -> int:
        row = line["row"]
        if type(row) is not int or not isinstance(line.get("image"), str) or not isinstance(line.get("cells"), dict):
            raise SettingsError(
                f"{self.path} holds a damaged line ({str(line)[:80]!r}); take it out, or delete the file"
            )
        return int(row)

    def has(self, row: int, image: str) -> bool:
        """Whether a row is there; where it is there as another image, the source has changed.

        SettingsError then; with ``overwrite`` this row and those behind it are given up.
        """
        known = self._rows.get(row)
        if known is not None and known != hash(image):
            if not self._overwrite:
                raise SettingsError(
                    f"row {row + 1} of the source is {image!r} now and was another image when {self.path} was begun; "
                    "restore the source, or start anew with --overwrite"
                )
            self._give_up(row)
            return False
        return known is not None

    def require_rows(self, count: int) -> None:
        """SettingsError where there are rows that a source of ``count`` rows does not have; see ``has``."""
        behind = sum(row >= count for row in self._rows)
        if behind and not self._overwrite:
            raise SettingsError(
                f"{self.path} holds answers to {behind} rows more than the {count} that the source has now; restore "
                "the source, or start anew with --overwrite"
            )
        if behind:
            self._give_up(count)

    def _give_up(self, first: int) -> None:
        """Forget the answers from a row on: ``offsets`` leaves their lines out, and new ones come behind them."""
        self._rows = {row: image for row, image in self._rows.items() if row < first}
        self.finishing = False

    def add(self, row: int, image: str, cells: Mapping[str, Any]) -> None:
        """Store the answer to a row, once."""
        if row not in self._rows:
            self._append({"row": row, "image": image, "cells": cells})
            self._rows[row] = hash(image)

    def finish(self) -> None:
        """Note that every answer is there."""
        if not self.finishing:
            self._append({"finish": True})
            self.finishing = True

    def offsets(self) -> list[int]:
        """Byte at which the line of each row begins, in the order of the source."""
        found = {line["row"]: start for start, line in self.lines() if line.get("row") in self._rows}
        return [start for _, start in sorted(found.items())]

    def at(self, offsets: list[int]) -> Iterator[dict[str, Any]]:
        """The lines that begin at these bytes."""
        with self.path.open("rb") as file:
            for place in offsets:
                file.seek(place)
                yield json.loads(file.readline())

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Byte at which each line begins, and the line."""
        place = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    value: Any = parse_json(line, f"{self.path} line {number}")
                except ValueError as error:
                    raise SettingsError(f"{error}; take the line out, or start anew after deleting the file") from error
                yield place, value if isinstance(value, dict) else {}
                place += len(line)

    def _append(self, line: Mapping[str, Any]) -> None:
        left = memoryview(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written: {error.strerror}; make room and give the same command again: it "
                f"continues after {len(self)} rows"
            ) from error

    def close(self, *, remove: bool = False) -> None:
        """Let go of the file; ``remove`` deletes it first."""
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()


def _differences(found: Any, wanted: Mapping[str, str]) -> str:
    """What is not the same, for people."""
    if not isinstance(found, dict):
        return "of an earlier version of phisight"
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return "; ".join(f"{name}: {found.get(name) or 'none'}, now {wanted.get(name) or 'none'}" for name in names)
