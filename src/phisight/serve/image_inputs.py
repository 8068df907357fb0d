"""Images of a request: data URLs and, where that is allowed, addresses past the SSRF guard."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.rejection import KINDS, Rejection
from phisight.serve.protocol.api_error import ApiError

Placed = tuple[str, str]
"""Where in the request an image stands, and its URL."""


class ImageInputs:
    """URLs to image files.

    Args:
        fetch: Whether addresses are fetched.
        allow_private: Whether from addresses that are not public, too.
        max_bytes: Of one image.
        max_images: Of one request.
    """

    def __init__(self, *, fetch: bool, allow_private: bool, max_bytes: int, max_images: int) -> None:
        self._max_bytes, self._max_images = max_bytes, max_images
        limits = FetchLimits(total_s=15, read_s=5, connect_s=5, attempts=2, redirects=3, allow_private=allow_private)
        self._fetcher = Fetcher(limits, max_bytes) if fetch else None

    async def files(self, urls: Sequence[Placed]) -> list[bytes]:
        """The files in their order; ApiError names the first that cannot be used."""
        if len(urls) > self._max_images:
            raise ApiError(
                400,
                f"{len(urls)} images, more than the {self._max_images} allowed in a request",
                param=urls[self._max_images][0],
                code="too_many_images",
            )
        data = [(where, url, self._data(where, url)) for where, url in urls]
        return list(await asyncio.gather(*(self._file(where, url, found) for where, url, found in data)))

    async def close(self) -> None:
        """Close connections."""
        if self._fetcher is not None:
            await self._fetcher.__aexit__(None, None, None)

    def _data(self, where: str, url: str) -> bytes | None:
        """The bytes of a data URL; None for an address that is fetched."""
        scheme = url[:8].lower()
        if scheme.startswith("data:"):
            return self._decoded(where, url)
        if not scheme.startswith(("http://", "https://")):
            raise ApiError(400, f"{where}: neither a data URL nor an address", param=where, code="invalid_image_url")
        if self._fetcher is None:
            raise ApiError(
                400,
                f"{where}: this server fetches no addresses (--allow-fetch); send a data URL",
                param=where,
                code="fetching_disabled",
            )
        return None

    def _decoded(self, where: str, url: str) -> bytes:
        head, comma, body = url.partition(",")
        if not comma or len(head) > 200:
            raise ApiError(
                400, f"{where}: a data URL has a comma before its data", param=where, code="invalid_image_url"
            )
        if len(body) > 3 * self._max_bytes:
            raise self._too_large(where)
        try:
            if head.lower().endswith(";base64"):
                found = base64.b64decode(body, validate=True)
            else:
                found = unquote_to_bytes(body)
        except (binascii.Error, ValueError):
            raise ApiError(400, f"{where}: the data is no base64", param=where, code="invalid_image_url") from None
        if len(found) > self._max_bytes:
            raise self._too_large(where)
        return found

    async def _file(self, where: str, url: str, found: bytes | None) -> bytes:
        if found is not None:
            return found
        assert self._fetcher is not None
        try:
            with await self._fetcher.fetch(url) as body:
                return body.read()
        except Rejection as rejection:
            # The kind alone: where a name leads is nothing that a client should learn here.
            raise ApiError(
                400, f"{where}: not fetched: {KINDS[rejection.kind][1]}", param=where, code="image_not_fetched"
            ) from None

    def _too_large(self, where: str) -> ApiError:
        return ApiError(
            400,
            f"{where}: more than the {self._max_bytes} bytes allowed for an image",
            param=where,
            code="image_too_large",
        )
