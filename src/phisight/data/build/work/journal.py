"""The journal of a build: staged rows and the result of every image, safe against kill -9.

A SQLite file in DIR/.build. The result of an image is committed after its file is whole under its final name, so
whatever the journal calls stored is there; a file that has no entry is written again and is the same file, since its
name is made of its content. Rows are staged anew at every start (the source is cheap to read, images are not).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from phisight.core.errors import DatasetError
from phisight.data.build.work.worklog import STORED, WORKSPACE, Entry, is_entry, read_log, result_of
from phisight.data.images.rejection import Rejection, StoredImage
from phisight.data.images.verify import damaged

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (token TEXT PRIMARY KEY, kind TEXT NOT NULL, result TEXT NOT NULL) WITHOUT ROWID;
DROP TABLE IF EXISTS rows;
CREATE TABLE rows (number INTEGER PRIMARY KEY, key TEXT, token TEXT, url TEXT, grouped TEXT, category TEXT, price REAL,
                   kind TEXT, reason TEXT, line INTEGER);
"""
_ASKED = "asked"


@dataclass(frozen=True)
class StagedRow:
    """One row of the source as the build sees it."""

    number: int
    line: int
    """Number of the row in the source, where ``number`` counts images."""
    key: str
    token: str | None
    """Its image; none when the row is rejected."""
    url: str
    """Where the image is, fit to be shown; empty for images inside the source."""
    group: str = ""
    category: str = ""
    price: float | None = None
    rejection: Rejection | None = None


class Journal:
    """Open for one build at a time."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / WORKSPACE
        self.workspace.mkdir(parents=True, exist_ok=True)
        self._sql = sqlite3.connect(self.workspace / "journal.sqlite", isolation_level=None, timeout=1)
        try:
            self._sql.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = OFF")
            self._sql.executescript(_SCHEMA)
            self._translate()
        except sqlite3.OperationalError:
            self._sql.close()
            raise
        except sqlite3.DatabaseError as error:
            self._sql.close()
            raise DatasetError(f"the journal in {self.workspace} is damaged ({error}); delete that folder") from error

    def _translate(self) -> None:
        """Rename what an earlier phisight called otherwise in the journal of a build that it was stopped in."""
        if any(row[1] == "outcome" for row in self._sql.execute("PRAGMA table_info(images)")):
            self._sql.execute("ALTER TABLE images RENAME COLUMN outcome TO result")

    @property
    def rows_path(self) -> Path:
        """Where the source's own columns are staged."""
        return self.workspace / "rows.parquet"

    def read_logs(self) -> None:
        """Record what worker processes logged before they, or this process, were killed."""
        for path in sorted(self.workspace.glob("finished-*.jsonl")):
            self.record(read_log(path))
            path.unlink()

    def forget(self, folder: Path, again: Callable[[Rejection], bool]) -> None:
        """Drop what is to be downloaded again: rejections of that kind, jobs without a result, lost files."""
        stored: dict[str, StoredImage] = {}
        dropped = []
        for token, kind, result in self._sql.execute("SELECT token, kind, result FROM images"):
            if kind != _ASKED and not is_entry(kind, result):
                dropped.append((token,))  # damaged: it is downloaded again
            elif kind == STORED:
                stored[token] = StoredImage.from_dict(json.loads(result))
            elif kind == _ASKED or again(Rejection(kind, result)):
                dropped.append((token,))
        lost = set(damaged({folder / image.file_name: image.sha256 for image in stored.values()}.items()))
        dropped += [(token,) for token, image in stored.items() if folder / image.file_name in lost]
        self._sql.executemany("DELETE FROM images WHERE token = ?", dropped)

    def stage(self, rows: Iterable[StagedRow], tokens: Iterable[str]) -> list[str]:
        """Add rows, in one transaction; of their images those without a result."""
        self._sql.execute("BEGIN")
        self._sql.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    r.number,
                    r.key,
                    r.token,
                    r.url,
                    r.group,
                    r.category,
                    r.price,
                    *_rejection_columns(r.rejection),
                    r.line,
                )
                for r in rows
            ),
        )
        claim = "INSERT OR IGNORE INTO images VALUES (?, ?, '')"
        claimed = [token for token in tokens if self._sql.execute(claim, (token, _ASKED)).rowcount == 1]
        self._sql.execute("COMMIT")
        return claimed

    def record(self, entries: Iterable[Entry]) -> None:
        """Record the results of images, in one transaction."""
        self._sql.execute("BEGIN")
        self._sql.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", entries)
        self._sql.execute("COMMIT")

    def rows(self) -> Iterator[tuple[StagedRow, StoredImage | Rejection]]:
        """Every staged row with its result, in source order."""
        cursor = self._sql.execute(
            "SELECT number, key, rows.token, url, grouped, category, price, rows.kind, reason, line, images.kind, "
            "result FROM rows LEFT JOIN images ON rows.token = images.token ORDER BY number"
        )
        for number, key, token, url, grouped, category, price, kind, reason, line, image_kind, result in cursor:
            rejection = Rejection(kind, reason) if kind else None
            row = StagedRow(number, line, key, token, url, grouped, category, price, rejection)
            if row.rejection is not None:
                yield row, row.rejection
            else:
                yield row, result_of(image_kind, result)

    def ranks(self, column: Literal["key", "grouped", "category"]) -> np.ndarray:
        """int32[N + 1]: for each row number the rank of its text from 1, in code point order; 0 for an empty one."""
        (most,) = self._sql.execute("SELECT max(number) FROM rows").fetchone()
        found = np.zeros(most + 1, dtype=np.int32)
        query = f"SELECT number, dense_rank() OVER (ORDER BY {column}) FROM rows WHERE {column} != ''"  # noqa: S608
        cursor = self._sql.execute(query)
        while rows := cursor.fetchmany(8192):
            numbers, ranks = zip(*rows, strict=True)
            found[list(numbers)] = ranks
        return found

    def key_of(self, number: int) -> str:
        """The key of one row."""
        (key,) = self._sql.execute("SELECT key FROM rows WHERE number = ?", (number,)).fetchone()
        return str(key)

    def numbered_keys(self) -> Iterator[tuple[int, str]]:
        """Number and key of every row, in source order."""
        yield from self._sql.execute("SELECT number, key FROM rows ORDER BY number")

    def close(self) -> None:
        """Close the file; the workspace stays."""
        self._sql.close()

    def remove(self) -> None:
        """Close, and remove the workspace of a finished folder."""
        self.close()
        shutil.rmtree(self.workspace)


def _rejection_columns(rejection: Rejection | None) -> tuple[str | None, str | None]:
    return (None, None) if rejection is None else (rejection.kind, rejection.reason)
