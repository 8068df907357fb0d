"""Keys and addresses in the format of the real ones, never one of them."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phisight.sample.catalogue.titles import slug

_DIGITS, _UPPER, _LOWER = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_HOST = re.compile(r"^([a-z]+://)[^/?#]+", re.IGNORECASE)


def _edges(counts: list[int]) -> NDArray[np.float64]:
    """Upper edges of shares on [0, 1); the last is above every draw."""
    edges = np.cumsum(np.array(counts, dtype=np.float64)) / sum(counts)
    edges[-1] = 2.0
    return np.asarray(edges, dtype=np.float64)


def _mask(code: str) -> str:
    return "".join("9" if c.isdigit() else "A" if c.isupper() else "a" if c.islower() else c for c in code)


class CodeModel:
    """The shapes of codes: where letters and digits stand, which positions never change."""

    def __init__(self, codes: list[str]) -> None:
        self._real = set(codes)
        self._used: set[str] = set()
        by_mask: dict[str, list[str]] = {}
        for code in codes:
            by_mask.setdefault(_mask(code), []).append(code)
        shapes = sorted(by_mask.items(), key=lambda item: -len(item[1]))
        kept = [item for item in shapes if len(item[1]) > 1] or shapes
        self._shapes = [self._positions(mask, group) for mask, group in kept]
        self._edges = _edges([len(group) for _, group in kept])

    @staticmethod
    def _positions(mask: str, group: list[str]) -> list[str]:
        positions = []
        for place, kind in enumerate(mask):
            seen = Counter(code[place] for code in group)
            fixed = len(group) > 1 and seen.most_common(1)[0][1] >= 0.999 * len(group)
            free = {"9": _DIGITS, "A": _UPPER, "a": _LOWER}.get(kind)
            if free is None or fixed:
                positions.append(seen.most_common(1)[0][0])
            elif len(group) >= 20 and len(seen) < 0.5 * len(free) and min(seen.values()) > 1:
                positions.append("".join(sorted(seen)))  # a position that knows only some letters
            elif place == 0 and kind == "9" and "0" not in seen:
                positions.append(_DIGITS[1:])
            else:
                positions.append(free)
        return positions

    def draw(self, rng: np.random.Generator) -> str:
        """A code that is no real one and was not drawn before; a digit longer when the format is used up."""
        longer = ""
        while True:
            for _ in range(50):
                shape = self._shapes[int(np.searchsorted(self._edges, rng.random(), side="right"))]
                picks = rng.random(len(shape))
                code = "".join(letters[int(pick * len(letters))] for letters, pick in zip(shape, picks, strict=True))
                code += longer
                if code not in self._real and code not in self._used:
                    self._used.add(code)
                    return code
            longer += _DIGITS[int(rng.integers(10))]


class AddressModel:
    """Addresses with the key, the title's slug and varying parts found; hosts become a reserved name."""

    def __init__(self, addresses: list[str], keys: list[str], names: list[str]) -> None:
        self._real = set(addresses)
        found = Counter(self._template(*row) for row in zip(addresses, keys, names, strict=True))
        often = {template: count for template, count in found.items() if count > 1}
        merged: Counter[str] = Counter(often)
        if sum(often.values()) < 0.5 * len(addresses):
            merged = Counter()
            for template, count in found.items():
                merged[_without_details(template)] += count
        self._templates = list(merged)
        self._edges = _edges([merged[template] for template in self._templates])
        self._used: set[str] = set()

    @staticmethod
    def _template(address: str, key: str, name: str) -> str:
        text = _HOST.sub(lambda match: match[1] + "shop.example", address)
        if name and len(slug(name)) > 2:
            text = text.replace(slug(name), "\x01")
        return text.replace(key, "\x02") if len(key) > 2 else text

    def draw(self, key: str, name: str, rng: np.random.Generator) -> str:
        """An address that is no real one and was not drawn before."""
        template = self._templates[int(np.searchsorted(self._edges, rng.random(), side="right"))]
        address = _filled(template, key, name, rng)
        while address in self._real or address in self._used:
            stem, dot, ending = address.rpartition(".")
            address = (
                f"{stem}-{int(rng.integers(10_000))}{dot}{ending}"
                if "/" not in ending
                else f"{address}-{int(rng.integers(10_000))}"
            )
        self._used.add(address)
        return address


def _filled(template: str, key: str, name: str, rng: np.random.Generator) -> str:
    def fresh(match: re.Match[str]) -> str:
        letters = _DIGITS if match[0] == "\x03" else _LOWER
        return "".join(letters[int(rng.integers(len(letters)))] for _ in range(8))

    return re.sub("[\x03\x04]", fresh, template.replace("\x01", slug(name) or "item").replace("\x02", key))


def _without_details(template: str) -> str:
    """Long runs of digits or letters in the last part of an address become free ones."""
    head, _, tail = template.rpartition("/")
    stem, dot, ending = tail.partition(".")
    stem = re.sub(r"\d{3,}", "\x03", stem)
    stem = stem if re.search("[\x01\x02\x03]", stem) else "\x04"
    return f"{head}/{stem}{dot}{ending}"


def as_like(value: str, real: Any) -> Any:
    """A code in the type of a real one."""
    return int(value) if isinstance(real, int) and value.isdigit() else value
