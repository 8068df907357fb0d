"""Who asks, and how often: keys compared in constant time, a token bucket for each client."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict

from phisight.serve.protocol.api_error import ApiError

_MOST_CLIENTS = 10_000


class Access:
    """Keys and rates of a server; used from one thread.

    Args:
        keys: Keys of clients; none means that anybody may ask.
        rate_per_minute: Requests of one client a minute; None means any number.
    """

    def __init__(self, keys: tuple[str, ...], rate_per_minute: float | None) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._rate = rate_per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """For each client the requests it has left, and when that was."""

    def client(self, authorization: str | None, peer: str) -> str:
        """Name of a client for queues and logs, which tells nothing of its key; ApiError 401 without a valid one."""
        if not self._digests:
            return peer
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "replace")).digest()
        valid = False
        for digest in self._digests:  # every one, so that time tells nothing
            valid |= hmac.compare_digest(digest, given)
        if not valid or scheme.lower() != "bearer":
            raise ApiError(401, "no valid key; send Authorization: Bearer KEY", code="invalid_api_key")
        return f"key-{given.hex()[:8]}"

    def spend(self, client: str) -> None:
        """Count a request; ApiError 429 where a client asks too often."""
        if self._rate is None:
            return
        now = time.monotonic()
        most = max(1.0, self._rate / 6)  # ten seconds' worth at once
        left, since = self._buckets.pop(client, (most, now))
        left = min(most, left + (now - since) * self._rate / 60)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise ApiError(
                429,
                f"more than {self._rate:g} requests a minute; slow down",
                code="rate_limit_exceeded",
                retry_s=(1 - left) * 60 / self._rate,
            )
