"""The hidden folder of a build, DIR/.build: one build at a time, and one line for a disk that cannot be written.

What a kill left behind of a file that was being written (``.metadata.parquet.XXXX.tmp``) is removed at the next start.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from phisight.core.dataset_folder import CARD, IMAGES, METADATA, REJECTS
from phisight.core.errors import DatasetError, PhisightError, SourceError
from phisight.data.build.work.worklog import WORKSPACE, cannot_write

_LOCK = "lock"
_LEFTOVER = re.compile("|".join(rf"\.{re.escape(name)}\.\w+\.tmp" for name in (CARD, METADATA, REJECTS)))


@contextmanager
def workspace(folder: Path) -> Iterator[None]:
    """Exclusive use of DIR for a build.

    DatasetError when another build uses it or it holds something else; StorageError when it cannot be written.
    """
    _check_target(folder)
    try:
        (folder / WORKSPACE).mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / WORKSPACE / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise DatasetError(f"{folder} is in use by another build; wait for it or choose another --out") from None
    except (OSError, NotImplementedError) as error:
        raise cannot_write(folder, error) from error
    try:
        for path in folder.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                path.unlink()
        yield
    except PhisightError:
        raise
    except sqlite3.DatabaseError as error:
        raise cannot_write(folder, error) from error
    except OSError as error:
        elsewhere = isinstance(error.filename, str) and not Path(error.filename).is_relative_to(folder)
        if elsewhere:
            raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error
        raise cannot_write(folder, error) from error
    finally:
        lock.release()


def _check_target(folder: Path) -> None:
    """DatasetError unless a folder is new, empty, or one of ours."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file; name a folder with --out")
    ours = {CARD, METADATA, REJECTS, IMAGES, WORKSPACE}
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    strange = [name for name in names if name not in ours and not _LEFTOVER.fullmatch(name)]
    if strange:
        raise DatasetError(
            f"{folder} already holds {strange[0]!r}, which is no part of a data set; choose another --out"
        )
