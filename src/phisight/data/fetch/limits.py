"""Settings of fetching: how long, how often, how many at once, and through what."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from phisight.core.errors import SettingsError

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}


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
    proxy: str = "none"
    """env: through HTTP_PROXY and HTTPS_PROXY of the environment, except to the hosts of NO_PROXY."""
    ca_bundle: Path | None = None
    """PEM file of certificate authorities that are trusted besides the system's."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers sent with every request to an address of the table, never along a redirect to another host. Values are
    secrets: they are not shown, logged or stored."""

    def __post_init__(self) -> None:
        if self.proxy not in ("none", "env"):
            raise SettingsError(f"--proxy {self.proxy!r} is neither none nor env")
        if self.ca_bundle is not None:
            try:
                ssl.create_default_context(cafile=self.ca_bundle)
            except OSError as error:
                raise SettingsError(
                    f"--ca-bundle {self.ca_bundle} holds no certificates in PEM form: {error.strerror or error}"
                ) from error


def parse_header(text: str) -> tuple[str, str]:
    """``Name: value`` as a pair; SettingsError, which never shows the value."""
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not _HEADER_NAME.fullmatch(name):
        raise SettingsError("--header must be 'NAME: VALUE', the name of letters, digits and hyphens")
    if name.lower() in _OWN_HEADERS:
        raise SettingsError(f"--header {name}: phisight sets this header itself; leave it out")
    if not value.isascii() or not value.isprintable():
        raise SettingsError(f"--header {name}: the value must be printable ASCII")
    return name, value
