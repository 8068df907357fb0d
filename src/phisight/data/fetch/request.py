"""From the cell of an image column to something that can be downloaded: bytes at hand, a file, or an address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phisight.data.fetch.addresses import checked_address, is_address
from phisight.data.fetch.object_store import require_library
from phisight.data.images.rejection import Rejection


@dataclass(frozen=True)
class Job:
    """One image to download; exactly one of body, path and url is set."""

    token: str
    """Names the image in the journal: equal tokens are the same image."""
    body: bytes | None = None
    path: str | None = None
    url: str | None = None


def job_for(cell: Any, root: Path | None) -> Job:
    """The job of one cell: text (path or URL), bytes, or a mapping with bytes and path; Rejection for anything else."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes | bytearray | memoryview):
        body = bytes(cell)
        return Job("body:" + hashlib.sha256(body).hexdigest(), body=body)
    text = "" if cell is None else str(cell).strip()
    if not text:
        raise Rejection("no_image", "the image column is empty")
    if is_address(text):
        url = checked_address(text)
        require_library(url)
        return Job("url:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), url=url)
    return _file_job(text, root)


def _file_job(text: str, root: Path | None) -> Job:
    if root is None:
        raise Rejection("no_image", "a path, but this source has no folder to look in")
    if "\0" in text:
        raise Rejection("missing_file", "the path holds a NUL byte")
    base = root.resolve()
    try:
        path = (base / text).resolve()
        if not path.is_relative_to(base):
            raise Rejection(
                "outside_root", f"the path leads out of the folder {root.name!r}; name another with --image-root"
            )
        status = path.stat() if path.is_file() else None
    except (OSError, RuntimeError) as error:
        raise Rejection("missing_file", "the path cannot be followed") from error
    if status is None:
        raise Rejection("missing_file", f"there is no file {text[:200]!r} in the folder {root.name!r}")
    stamp = f"{path.relative_to(base).as_posix()}\x1f{status.st_size}\x1f{status.st_mtime_ns}"
    return Job("file:" + hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest(), path=str(path))
