"""From the cell of an image column to something that can be downloaded: bytes at hand, a file, or an address."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from phisight.data.images.rejection import Rejection

_SPACES = re.compile(r"[\s\x00-\x1f]")


@dataclass(frozen=True)
class Job:
    """One image to download; exactly one of body, path and url is set."""

    token: str
    """Names the image in the journal: equal tokens are the same image."""
    body: bytes | None = None
    path: str | None = None
    url: str | None = None


def redacted(url: str) -> str:
    """An address for people and files: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(no address)"
    return f"{parts.scheme}://{host}{port}{parts.path}"[:500]


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
        return Job("url:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), url=checked_scheme(text))
    return _file_job(text, root)


def is_address(text: str) -> bool:
    """Whether a cell is an address rather than a path: it has a scheme (of two letters or more) and a colon."""
    scheme, colon, _ = text.partition(":")
    named = bool(colon) and len(scheme) > 1 and scheme.isalnum() and "://" in text
    return named or text.lower().startswith("data:")


def checked_scheme(url: str) -> str:
    """The address itself when it is http or https with a host; Rejection otherwise."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Rejection("bad_url", "the address cannot be read") from error
    if parts.scheme.lower() not in ("http", "https"):
        raise Rejection("bad_url", f"scheme {parts.scheme[:20]!r}; only http and https are fetched")
    if not host:
        raise Rejection("bad_url", "the address has no host")
    if _SPACES.search(url):
        raise Rejection("bad_url", "the address holds spaces or control characters")
    return url


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
