"""One number as a person wrote it: sign, digits with separators, unit; and every way its separators can be read."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_SPACES = dict.fromkeys(
    map(ord, "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t\r\n"),
    " ",
)
_INVISIBLE = dict.fromkeys(
    map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
)
_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02b9\u02bc\u00b4`_\u066c\u2032"), "'")
_DASHES = dict.fromkeys(map(ord, "\u2212\u2010\u2011\u2012\u2013\u2014\u2015\ufe63"), "-")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_TRANSLATION = {**_FULL_WIDTH, **_SPACES, **_INVISIBLE, **_APOSTROPHES, **_DASHES, ord("\u00b7"): "\u066b"}

ALWAYS_DECIMAL = "\u066b"
"""The Arabic decimal sign (a middle dot is read as one): it never separates thousands."""
DECIMALS = ".," + ALWAYS_DECIMAL
_SEPARATORS = DECIMALS + "' "
_EXPONENT = re.compile(r"([-+]?)(\d+(?:\.\d+)?)[eE]([-+]?\d{1,3})")
_WRITTEN = re.compile(
    r"(?P<open>\()?(?P<before>[^\d()]*?)(?P<body>[.,\u066b]?\d(?:[\d.,' \u066b]*\d)?)"
    r"(?P<whole>[.,:]?\s?--?(?!\S*\d))?(?P<point>[.,])?(?P<after>[^\d()]*)(?P<close>\))?"
)
_GROUPS = re.compile(r"[1-9]\d{0,2}(?:(?P<by>[.,' ])\d{3})(?:(?P=by)\d{3})*|[1-9]\d?(?:,\d{2})+,\d{3}")


@dataclass(frozen=True)
class Reading:
    """One way to read a number's separators."""

    value: str
    """Digits with a point, as ``float`` and ``int`` read them, the sign in front."""
    decimal: str | None
    """The sign taken as decimal sign, where there is one."""
    thousands: str | None
    """The sign taken as thousands separator, where there is one."""


@dataclass(frozen=True)
class NumberText:
    """A cell that holds one number, and its readings: one, or two where "1.299" may be 1299 or 1.299."""

    readings: tuple[Reading, ...]
    unit: str
    """What stands beside the number, without white space around it: ``€``, ``EUR``, ``%``, ``kg``, or nothing."""

    @property
    def separator(self) -> str | None:
        """The sign that can be read in two ways."""
        return self.readings[0].decimal or self.readings[1].decimal if len(self.readings) > 1 else None


def plain_text(text: str) -> str:
    """The text with ASCII digits, spaces, apostrophes and dashes in place of their many relatives."""
    text = text.translate(_TRANSLATION)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(one, one)) for one in text)
    return " ".join(text.split())


def read_number_text(text: str) -> NumberText | None:
    """Read one cell; None when it is not one number (a range, a date, words with several numbers, nothing)."""
    text = plain_text(text)
    exponent = _EXPONENT.fullmatch(text)
    if exponent:
        return NumberText((Reading(text, "." if "." in text else None, None),), "")
    match = _WRITTEN.fullmatch(text)
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    before, after = match["before"].strip(), match["after"].strip()
    whole = (match["whole"] or "").replace(" ", "")
    signs = [one for one in before if one in "+-"]
    if len(signs) > 1 or any(one in "+-" for one in after):
        return None
    trailing_minus = whole == "-" and not signs and not match["open"]  # 45- as SAP writes it; 45.- and 45:- are 45
    if whole and match["point"]:
        return None
    negative = bool(match["open"]) or "-" in signs or trailing_minus
    before = before.replace("+", "").replace("-", "").strip()
    both = before and after and before.casefold() != after.casefold()
    unit = f"{before} {after}" if both else before or after
    if any(one.isnumeric() and one not in "²³" for one in unit):  # ½
        return None
    readings = tuple(_readings(match["body"], "-" if negative else ""))
    return NumberText(readings, unit) if readings else None


def _readings(body: str, sign: str) -> list[Reading]:
    """Every consistent way to read digits with separators."""
    found = []
    for decimal in [None, *(one for one in DECIMALS if body.count(one) == 1)]:
        integer, _, fraction = body.partition(decimal) if decimal else (body, "", "")
        if decimal and (not fraction.isdigit() or any(one in fraction for one in _SEPARATORS)):
            continue
        if integer.isdigit() or (not integer and decimal):
            found.append(Reading(f"{sign}{integer or '0'}{'.' + fraction if decimal else ''}", decimal, None))
            continue
        groups = _GROUPS.fullmatch(integer)
        by = next((one for one in integer if not one.isdigit()), None)
        if groups and by != decimal:
            digits = "".join(one for one in integer if one.isdigit())
            found.append(Reading(f"{sign}{digits}{'.' + fraction if decimal else ''}", decimal, by))
    return found
