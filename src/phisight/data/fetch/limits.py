"""Settings of fetching: how long, how often, how many at once, and through what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class FetchLimits:
    """How long, how often, how many at once, and through what."""

    total_s: float = 30.0
    """Seconds for one image over all attempts, from its first byte sent."""
    read_s: float = 10.0
    """Seconds without a byte."""
    connect_s: float = 10.0
    """Seconds until a connection stands."""
    attempts: int = 4
    """Requests for one image; only transient failures are tried again."""
    backoff_s: float = 0.5
    """Pause before the second attempt; doubled for each further one, with a random part of a half."""
    longest_pause_s: float = 60.0
    """A Retry-After beyond it ends the image's attempts for this build."""
    redirects: int = 5
    """Redirects followed for one image."""
    connections: int = 128
    """Connections at once."""
    per_host: int = 32
    """Requests to one host at once."""
    allow_private: bool = False
    """Whether addresses that are not public are fetched from."""
    proxy: Literal["none", "env"] = "none"
    """env: through HTTP_PROXY and HTTPS_PROXY of the environment, except to the hosts of NO_PROXY."""
    ca_bundle: Path | None = None
    """PEM file of certificate authorities that are trusted besides the system's."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers sent with every request to an address of the table, never along a redirect to another host. Values are
    secrets: they are not shown, logged or stored."""
