"""Where a fetch may go: every address a name leads to is checked, and the connection goes to a checked one.

The check sits where connections are made, below pooling, TLS and redirects: whatever makes a new connection passes it,
and the address that was checked is the one that is dialled (a name that changes its answer in between gains nothing).
TLS still verifies the certificate against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from phisight.data.images.rejection import Rejection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, also behind IPv4-in-IPv6 forms."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(found is not None and not is_public(found) for found in inner):
            return False
        if address.ipv4_mapped is not None or address in _NAT64:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved


class Guard:
    """Resolves names and checks every address; only what it returns is dialled."""

    def __init__(self, allow_private: bool = False) -> None:
        self.allow_private = allow_private

    async def resolve(self, host: str, port: int) -> list[str]:
        """Every address of a name, checked; Rejection when one of them is not public."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Rejection("no_address", f"the name {host[:80]!r} cannot be resolved") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for text in addresses:
            if not self.allow_private and not is_public(ipaddress.ip_address(text.split("%")[0])):
                reason = f"{host[:80]!r} leads to {text}, which is not public; --allow-private"
                raise Rejection("private_address", reason)
        return addresses
