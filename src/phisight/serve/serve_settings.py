"""How a server is run: where it listens, who may ask, how much of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from phisight.core.errors import SettingsError
from phisight.serve.engine.image_workers import Caps

KEY_VARIABLE = "PHISIGHT_API_KEY"


@dataclass(frozen=True)
class ServeSettings:
    """Settings of one server."""

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = field(default=(), repr=False)
    """Keys of clients; none means that anybody may ask."""
    insecure: bool = False
    """Whether a public address without a key is fine."""
    allow_fetch: bool = False
    """Whether images behind http and https addresses are fetched."""
    allow_private: bool = False
    """Whether addresses that are not public are fetched from; for tests."""
    allow_hosts: tuple[str, ...] = ()
    """Names, besides localhost, by which clients may call this server."""
    allow_origins: tuple[str, ...] = ()
    """Web pages of other origins that may ask (CORS)."""
    max_sequences: int = 16
    """Answers in the making at once."""
    max_queue: int = 256
    """Requests that wait; half of it for one client."""
    timeout_s: float = 120.0
    """Seconds for one request, waiting included."""
    rate_per_minute: float | None = None
    """Requests of one client a minute; None means any number."""
    max_body_bytes: int = 32_000_000
    max_held_bytes: int = 512_000_000
    """Bodies in memory at once."""
    max_images: int = 8
    """Images of one request."""
    max_new_tokens: int = 512
    """Longest answer in tokens."""
    caps: Caps = field(default_factory=Caps)
    workers: int = 2
    """Processes that decode images; 0 means a thread."""
    header_s: float = 10.0
    """Seconds for the headers of a request."""
    body_s: float = 30.0
    """Seconds for its body."""
    grace_s: float = 30.0
    """Seconds for running answers after SIGTERM."""
    max_connections: int = 1000

    def __post_init__(self) -> None:
        if any(len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key for key in self.keys):
            raise SettingsError(f"a key in {KEY_VARIABLE} is shorter than 8 characters, or not printable ASCII")
        if not self.keys and not self.insecure and not is_loopback(self.host):
            raise SettingsError(
                f"--host {self.host} can be reached from other machines, and there is no key; set {KEY_VARIABLE}, bind "
                "to 127.0.0.1, or say --insecure"
            )

    @property
    def local_only(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address to bind to is this machine's alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def keys_of(text: str | None) -> tuple[str, ...]:
    """Keys of a variable, divided by commas."""
    return tuple(key for part in (text or "").split(",") if (key := part.strip()))
