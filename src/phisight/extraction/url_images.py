"""Images that are no file here: bytes at hand, and addresses under the rules of ``phisight data build``."""

from __future__ import annotations

import asyncio
import atexit
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import IO

from PIL import Image

from phisight.core.errors import UnreadableImageError
from phisight.data.fetch.addresses import is_address, redacted
from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.decode import ImageLimits, decode_bytes
from phisight.data.images.rejection import Rejection


def is_url(name: str) -> bool:
    """Whether a name is an address: it begins with a scheme."""
    return is_address(name) and not name.startswith("//")


@dataclass(frozen=True)
class StoredBytes:
    """The bytes of an image file as a source that another process can read."""

    data: bytes
    name: str

    def __call__(self) -> Image.Image:
        """The image, decoded."""
        return decode_bytes(self.data, self.name)


@dataclass
class FetchedImage:
    """The image behind an address, fetched when it is called, or before, once it is started."""

    url: str
    limits: FetchLimits
    _body: Future[IO[bytes]] | None = field(default=None, repr=False, compare=False)

    def start(self) -> None:
        """Begin to fetch: many at once, whoever waits for them; the rules bound how many a host sees."""
        if self._body is None:
            loop, fetcher = _connection(self.limits)
            self._body = asyncio.run_coroutine_threadsafe(fetcher.fetch(self.url), loop)

    def __call__(self) -> Image.Image:
        """The image, decoded; UnreadableImageError with the reason. Safe in any thread."""
        self.start()
        assert self._body is not None
        try:
            body = self._body.result()
        except Rejection as rejection:
            raise UnreadableImageError(f"{redacted(self.url)}: {rejection.reason}") from rejection
        self._body = None
        with body:
            return decode_bytes(body.read(), redacted(self.url))


@cache
def _connection(limits: FetchLimits) -> tuple[asyncio.AbstractEventLoop, Fetcher]:
    """A loop in a thread of its own, and what fetches there."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fetch", daemon=True).start()
    fetcher = Fetcher(limits, ImageLimits().max_bytes)

    def close() -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(fetcher.__aexit__(None, None, None), loop).result(timeout=5)

    atexit.register(close)
    return loop, fetcher
