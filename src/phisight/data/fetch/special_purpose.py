"""Addresses that are not on the public internet: an own table, since those of Python differ from release to release.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries, the multicast and the deprecated ranges of RFC 5771,
RFC 4291, RFC 3879, RFC 7526. Where a registry calls a small part of a refused range reachable (anycast relays in
192.0.0.0/24 and 2001::/23), this table is stricter: no image is served from there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NOT_PUBLIC_IPV4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a carrier's customers",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "Azure's service for virtual machines",
    "169.254.0.0/16": "link-local, with the metadata services of clouds",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "6to4 relays, deprecated",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, and broadcast",
}
NOT_PUBLIC_IPV6 = {
    "2001::/23": "protocol assignments: Teredo, benchmarking, ORCHID",
    "2001:db8::/32": "documentation",
    "3fff::/20": "documentation",
}
"""Inside 2000::/3. Nothing outside of it is public but the forms that carry an IPv4 address."""

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4 = tuple(map(ipaddress.IPv4Network, NOT_PUBLIC_IPV4))
_IPV6 = tuple(map(ipaddress.IPv6Network, NOT_PUBLIC_IPV6))
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet; one that carries IPv4 addresses, when those do too."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _IPV4)
    carries_ipv4 = address.ipv4_mapped is not None or address in _NAT64
    if not carries_ipv4 and (address not in _GLOBAL_UNICAST or any(address in network for network in _IPV6)):
        return False
    return all(map(is_public, _embedded(address)))


def _embedded(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address may be passed on to."""
    number = int(address)
    if address.ipv4_mapped is not None or address in _NAT64 or (number >> 32 & 0xFFFFFFFF) in _ISATAP:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
