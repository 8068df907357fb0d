"""The SSRF guard: every address a name leads to is checked, and the connection goes to a checked one.

It is the resolver of aiohttp's connector, so whatever makes a new connection passes it, and the address that was
checked is the one that is dialed (a name that changes its address in between gains nothing). aiohttp does not resolve
addresses written as numbers: ``check_literal`` looks at those before each request, and ``open_socket``, where the
connection is made, is the last check of all. TLS verifies the certificate against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from phisight.data.fetch.special_purpose import is_public
from phisight.data.images.rejection import Rejection


class Guard(AbstractResolver):
    """Resolves names and checks every address."""

    def __init__(self, allow_private: bool = False) -> None:
        self.allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of a name, checked; Rejection when one of them is not public or there is none."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Rejection("no_address", f"the name {host[:80]!r} cannot be resolved") from error
        results: dict[str, ResolveResult] = {}
        for kind, _, protocol, _, place in found:
            text = str(place[0])
            self.check(text, host)
            results[text] = ResolveResult(
                hostname=host,
                host=text,
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
        return list(results.values())

    def check(self, text: str, host: str) -> None:
        """Rejection unless an address, which ``host`` leads to, is public."""
        if not self.allow_private and not is_public(ipaddress.ip_address(text.partition("%")[0])):
            reason = f"{host[:80]!r} leads to {text}, which is not public; --allow-private"
            raise Rejection("private_address", reason)

    def check_literal(self, host: str) -> None:
        """Check a host that is an address written as numbers, in any of the system's spellings (``127.1``, ``0x7f.1``).

        Names are checked when they are resolved.
        """
        try:
            text = str(ipaddress.ip_address(host.partition("%")[0]))
        except ValueError:
            try:
                text = socket.inet_ntoa(socket.inet_aton(host))
            except (OSError, UnicodeError):
                return
        self.check(text, host)

    def open_socket(self, address: Any) -> socket.socket:
        """The socket of a new connection, for aiohttp's ``socket_factory``; OSError for an address that is not public.

        ``address`` is one entry of ``getaddrinfo``: family, type, protocol, name, place.
        """
        family, kind, protocol, _, place = address
        if not self.allow_private and not is_public(ipaddress.ip_address(str(place[0]).partition("%")[0])):
            raise OSError("the address is not public")
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Nothing to close."""
