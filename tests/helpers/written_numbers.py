"""Prices as shops of twelve countries write them, each with the number that was meant."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

Writer = Callable[[float, random.Random], str]


class Written(NamedTuple):
    """A price as text, and its value."""

    text: str
    value: float


def grouped(digits: str, by: str) -> str:
    """Thousands apart by a sign."""
    parts: list[str] = []
    while len(digits) > 3:
        parts.insert(0, digits[-3:])
        digits = digits[:-3]
    return by.join([digits, *parts])


def grouped_in_lakhs(digits: str, by: str) -> str:
    """Indian grouping: the last three digits, then pairs."""
    if len(digits) <= 3:
        return digits
    head = digits[:-3]
    parts: list[str] = []
    while len(head) > 2:
        parts.insert(0, head[-2:])
        head = head[:-2]
    return by.join([head, *parts, digits[-3:]])


def _plain(
    thousands: str, decimal: str, before: str = "", after: str = "", group: Callable[[str, str], str] = grouped
) -> Writer:
    def write(value: float, _draw: random.Random) -> str:
        whole, _, cents = f"{value:.2f}".partition(".")
        return f"{before}{group(whole, thousands)}{decimal}{cents}{after}"

    return write


def _whole(thousands: str, before: str = "", after: str = "") -> Writer:
    def write(value: float, _: random.Random) -> str:
        return f"{before}{grouped(str(round(value)), thousands)}{after}"

    return write


def _either(*writers: Writer) -> Writer:
    def write(value: float, draw: random.Random) -> str:
        return draw.choice(writers)(value, draw)

    return write


ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


def _arabic(value: float, _draw: random.Random) -> str:
    whole, _, cents = f"{value:.2f}".partition(".")
    return f"{grouped(whole, '٬')}٫{cents} ر.س".translate(ARABIC)


STYLES: dict[str, tuple[Writer, bool]] = {
    "american": (_either(_plain(",", ".", "$"), _plain(",", ".")), False),
    "british": (_plain(",", ".", "£"), False),
    "german": (_either(_plain(".", ",", after=" €"), _plain("", ",", after=" €")), False),
    "french": (_plain("\u202f", ",", after="\u00a0€"), False),
    "swiss": (_either(_plain("’", ".", "CHF "), _whole("'", "CHF ", ".-")), False),
    "swedish": (_either(_whole(" ", after=" kr"), _whole("\u00a0", after=":- kr")), True),
    "norwegian": (_either(_whole(" ", "kr ", ",-"), _plain(" ", ",", "kr ")), False),
    "indian": (_plain(",", ".", "₹", group=grouped_in_lakhs), False),
    "brazilian": (_plain(".", ",", "R$ "), False),
    "japanese": (_either(_whole(",", "¥"), _whole(",", after="円")), True),
    "polish": (_plain(" ", ",", after=" zł"), False),
    "saudi": (_arabic, False),
}
"""How each country writes prices, and whether it writes whole numbers only."""


def written_prices(style: str, count: int, seed: int = 0) -> Iterator[Written]:
    """Prices between 3 and 60,000 in one national style."""
    draw = random.Random(seed)
    write, whole = STYLES[style]
    for _ in range(count):
        value = round(10 ** draw.uniform(0.5, 4.8), 2)
        text = write(value, draw)
        in_full = whole or text.rstrip("€ krzł").endswith("-")
        yield Written(text, float(round(value)) if in_full else value)
