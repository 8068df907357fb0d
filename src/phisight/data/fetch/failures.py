"""Failures of one request: which may not last, and how long a server asks to wait."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from phisight.data.images.rejection import Rejection

_RETRIED_STATUS = {408, 425, 429, *range(500, 600)}


class TransientError(Exception):
    """An attempt failed in a way that may not last; ``pause_s`` is the server's Retry-After."""

    def __init__(self, rejection: Rejection, pause_s: float | None = None) -> None:
        super().__init__(rejection.reason)
        self.rejection = rejection
        self.pause_s = pause_s


def check_status(status: int, retry_after: str | None) -> None:
    """Rejection (permanent) or TransientError for a status that is no success."""
    if 200 <= status < 300:
        return
    if status < 200:
        raise TransientError(Rejection("connection", "the server changes the protocol"))
    if status in (404, 410):
        raise Rejection("not_found", f"status {status}")
    if status not in _RETRIED_STATUS:
        raise Rejection("http_status", f"status {status}")
    kind = "rate_limited" if status == 429 else "server_error"
    raise TransientError(Rejection(kind, f"status {status}"), seconds_to_wait(retry_after))


def seconds_to_wait(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
