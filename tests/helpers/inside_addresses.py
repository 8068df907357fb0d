"""Addresses that nothing may be fetched from, in every form that leads there: for all that fetches."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from phisight.data.fetch.special_purpose import is_public
from phisight.data.fetch.ssrf_guard import Guard

REGISTRY = [
    "0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.170/31", "192.0.2.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "255.255.255.255/32",
    "::1/128", "::/128", "::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32",
    "2001:2::/48", "2001:10::/28", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10",
    "ff00::/8",
]  # fmt: skip
"""Ranges the registries and RFCs call not globally reachable, deprecated or multicast."""
SINGLE = ["192.0.0.192", "fec0::1", "3fff::1", "168.63.129.16", "100.100.100.200", "169.254.169.254", "fd00:ec2::254"]
"""Addresses of clouds and of newer registries."""
FORMS = ("mapped", "nat64", "6to4", "isatap", "compatible", "teredo")
"""How an address of IPv6 carries one of IPv4."""
BROKEN = [
    "file:///etc/passwd", "ftp://example.com/a.jpg", "gopher://example.com", "javascript://x", "http:///nohost",
    "http://[::1", "http://a b/c", "http://host:99999/x", "dict://x:1/",
]  # fmt: skip
"""Addresses of other schemes, and such as cannot be read."""


def carrying(inner: str, form: str) -> ipaddress.IPv6Address:
    """The address of IPv6 that carries one of IPv4."""
    number = int(ipaddress.IPv4Address(inner))
    forms = {
        "mapped": 0xFFFF << 32 | number,
        "nat64": int(ipaddress.IPv6Address("64:ff9b::")) | number,
        "6to4": 0x2002 << 112 | number << 80 | 1,
        "isatap": int(ipaddress.IPv6Address("2606:4700::")) | 0x5EFE << 32 | number,
        "compatible": number,
        "teredo": 0x20010000 << 96 | 0x08080808 << 64 | (number ^ 0xFFFFFFFF),
    }
    return ipaddress.IPv6Address(forms[form])


def as_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As it stands in a URL."""
    return f"[{address}]" if address.version == 6 else str(address)


def inside_hosts(draw: random.Random) -> Iterator[str]:
    """Hosts of the inside: of each range one address, clouds, carriers, and IPv4 in every spelling."""
    for text in REGISTRY:
        network = ipaddress.ip_network(text)
        yield as_host(network[draw.randrange(network.num_addresses)])
    yield from (as_host(ipaddress.ip_address(text)) for text in SINGLE)
    for form in FORMS:
        yield as_host(carrying(draw.choice(["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.0.0.192"]), form))
    for inner in ("127.0.0.1", draw.choice(["10.1.2.3", "192.168.1.1", "169.254.169.254"])):
        yield from spellings(inner)
    yield from ("localhost", "LOCALHOST.", "127.0.0.1.", "\uff11\uff12\uff17.0.0.1", "127.1", "127.0.1")


def spellings(address: str) -> list[str]:
    """An address of IPv4 as systems read it: one number, hexadecimal, octal, fewer parts."""
    number = int(ipaddress.IPv4Address(address))
    octets = [number >> shift & 255 for shift in (24, 16, 8, 0)]
    return [
        str(number), hex(number), oct(number).replace("0o", "0"), ".".join(map(hex, octets)),
        ".".join(f"0{octet:o}" for octet in octets), f"{octets[0]}.{number & 0xFFFFFF}",
        f"{octets[0]}.{octets[1]}.{number & 0xFFFF}",
    ]  # fmt: skip


def watch_dialing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Places that sockets of this process connect to from now on."""
    dialed: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        dialed.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    return dialed


def not_public(dialed: list[Any], but: set[int]) -> list[Any]:
    """Those of the inside, other than at these ports."""
    return [one for one in dialed if one[1] not in but and not is_public(ipaddress.ip_address(one[0]))]


def let_through(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Let one name lead to this machine, as a public one would lead outside; the hosts that were looked up."""
    checked: list[str] = []
    original, open_socket = Guard.resolve, Guard.open_socket

    async def resolve(self: Guard, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> Any:
        checked.append(host)
        guard = Guard(allow_private=True) if host == name else self
        return await original(guard, "127.0.0.1" if host == name else host, port, family)

    monkeypatch.setattr(Guard, "resolve", resolve)
    monkeypatch.setattr(Guard, "open_socket", lambda _, address: open_socket(Guard(allow_private=True), address))
    return checked
