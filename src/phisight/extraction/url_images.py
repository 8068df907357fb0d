"""Images behind addresses, under the rules of ``phisight data build``: public addresses only, limits, retries."""

from __future__ import annotations

import asyncio
import threading
from functools import cache

from PIL import Image

from phisight.core.errors import UnreadableImageError
from phisight.data.fetch.client import Fetcher
from phisight.data.fetch.limits import FetchLimits
from phisight.data.images.decode import ImageLimits, decode_bytes
from phisight.data.images.rejection import Rejection


def is_url(name: str) -> bool:
    """Whether a name is an address that can be fetched."""
    return name.lower().startswith(("http://", "https://"))


def fetch_image(url: str, limits: FetchLimits | None = None) -> Image.Image:
    """The image behind an address, decoded; UnreadableImageError with the reason. Safe to call from many threads."""
    loop, fetcher = _connection(limits or FetchLimits())
    try:
        body = asyncio.run_coroutine_threadsafe(fetcher.fetch(url), loop).result()
    except Rejection as rejection:
        raise UnreadableImageError(f"{url}: {rejection.reason}") from rejection
    with body:
        return decode_bytes(body.read(), url)


@cache
def _connection(limits: FetchLimits) -> tuple[asyncio.AbstractEventLoop, Fetcher]:
    """A loop in a thread of its own, and what fetches there."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fetch", daemon=True).start()
    return loop, Fetcher(limits, ImageLimits().max_bytes)
