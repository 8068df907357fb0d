"""Images in S3 and Google Cloud Storage, through fsspec. Extras: ``phisight[s3]``, ``phisight[gcs]``.

Credentials are found by the conventions of s3fs and gcsfs (environment, profile, metadata service); an address of the
table never carries any.
"""

from __future__ import annotations

import importlib.util
import io
from typing import IO, Any
from urllib.parse import urlsplit

from phisight.core.errors import MissingExtraError
from phisight.data.fetch.addresses import OBJECT_STORES
from phisight.data.images.rejection import Rejection

_LIBRARIES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}


def require_library(url: str) -> None:
    """MissingExtraError when an address needs a library that is not installed."""
    scheme = urlsplit(url).scheme.lower()
    if scheme not in OBJECT_STORES:
        return
    from fsspec import registry

    library, extra = _LIBRARIES[OBJECT_STORES[scheme]]
    if scheme not in registry and importlib.util.find_spec(library) is None:
        raise MissingExtraError(f"reading {scheme}:// addresses", extra)


def read_object(url: str, max_bytes: int) -> IO[bytes]:
    """The object behind an address; Rejection when it is not there, too large or cannot be read."""
    import fsspec

    try:
        files = fsspec.filesystem(urlsplit(url).scheme.lower())  # nothing else of the address sets it up
        size = files.info(url).get("size")
        if isinstance(size, int) and size > max_bytes:
            raise Rejection("too_large", f"{size} bytes announced, more than the {max_bytes} allowed")
        with files.open(url, "rb") as file:
            return _capped(file, max_bytes)
    except Rejection:
        raise
    except FileNotFoundError as error:
        raise Rejection("not_found", "there is no such object") from error
    except PermissionError as error:
        raise Rejection("http_status", "access to the object is denied") from error
    except Exception as error:  # the libraries raise their own and their network's
        raise Rejection("connection", f"the object cannot be read: {type(error).__name__}") from error


def _capped(file: Any, max_bytes: int) -> IO[bytes]:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Rejection("too_large", f"more than the {max_bytes} bytes allowed")
    return io.BytesIO(data)
