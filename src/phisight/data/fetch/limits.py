"""How long, how often and how many at once: the limits of fetching."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FetchLimits:
    """How long, how often and how many at once."""

    total_s: float = 30.0
    """Seconds for one image over all attempts, from its first byte sent."""
    read_s: float = 10.0
    """Seconds without a byte."""
    connect_s: float = 10.0
    attempts: int = 4
    backoff_s: float = 0.5
    """Pause before the second attempt; doubled for each further one, with a random part of a half."""
    longest_pause_s: float = 60.0
    """A Retry-After beyond it ends the image's attempts for this build."""
    redirects: int = 5
    connections: int = 128
    per_host: int = 32
    http2: bool = False
    allow_private: bool = False
