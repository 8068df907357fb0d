"""From the cell of an image column to something that can be downloaded: bytes at hand, a file, or an address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from phisight.data.fetch.addresses import checked_address, is_address
from phisight.data.fetch.local_files import LocalFiles
from phisight.data.fetch.object_store import require_library
from phisight.data.images.image_names import written_image
from phisight.data.images.rejection import Rejection


@dataclass(frozen=True)
class Job:
    """One image to download; exactly one of body, path and url is set."""

    token: str
    """Names the image in the journal: equal tokens are the same image."""
    body: bytes | None = None
    path: str | None = None
    url: str | None = None


def job_for(cell: Any, files: LocalFiles | None) -> Job:
    """The job of one cell: text (path, URL, or an image written as text), bytes, or a mapping with bytes and path.

    Rejection for anything else.
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes | bytearray | memoryview):
        return _body_job(bytes(cell))
    text = "" if cell is None else str(cell).strip()
    if not text:
        raise Rejection("no_image", "the image column is empty")
    body = written_image(text)
    if body is not None:
        return _body_job(body)
    if is_address(text):
        url = checked_address(text)
        require_library(url)
        return Job("url:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), url=url)
    if files is None:
        kind = "bad_url" if text[:5].lower() == "file:" else "no_image"
        raise Rejection(kind, "a path, but this source has no folder to look in")
    path = files.find(text)
    status = path.stat()
    stamp = f"{files.place_of(path)}\x1f{status.st_size}\x1f{status.st_mtime_ns}"
    return Job("file:" + hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest(), path=str(path))


def _body_job(body: bytes) -> Job:
    return Job("body:" + hashlib.sha256(body).hexdigest(), body=body)
