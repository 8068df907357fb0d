"""How a column writes its numbers: decimal sign, thousands separator and unit, decided from all of its values.

A value such as "1.299" says nothing by itself. "12,50", "1.299.000" or "¥1,299" elsewhere in the column settle it;
where nothing does, or where values contradict each other, SettingsError names the option that does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from phisight.core.errors import SettingsError, some
from phisight.data.values.currencies import SHARED, ZERO_DECIMALS, currency
from phisight.data.values.number_text import ALWAYS_DECIMAL, NumberText, Reading, read_number_text

SIGNS = {"dot": ".", "comma": ",", "space": " ", "apostrophe": "'", "none": ""}
"""What separators are called in ``--number``."""
_NAMES = {sign: name for name, sign in SIGNS.items()}
_SHOWN = 3
_RARE_UNIT = 0.05
"""Below this share of a column's values a unit that is no currency makes its rows unreadable, not the column."""
_WEAK = 0.01
"""Evidence by fewer rows than this share of the rows it decides is none."""


@dataclass(frozen=True)
class NumberStyle:
    """How to read the numbers of one column; ``None`` for a sign means that each value is clear by itself."""

    decimal: str | None = None
    """The decimal sign; None where the values that have one are clear by themselves."""
    thousands: str | None = None
    """The thousands separator, likewise."""
    units: Mapping[str, str] | None = field(default_factory=dict)
    """Units that may stand beside a number (as ``unit_of`` gives them) and what each is called; None: any unit."""

    def read(self, text: str) -> tuple[float, str] | None:
        """Value and unit of a cell; None where it is not a number of this style."""
        plain = self.plain(text)
        return (float(plain[0]), plain[1]) if plain else None

    def plain(self, text: str) -> tuple[str, str] | None:
        """The number as ``float`` and ``int`` read it, and its unit; None where it is not a number of this style."""
        number = read_number_text(text)
        if number is None:
            return None
        unit = unit_of(number)
        if self.units is not None and unit and unit not in self.units:
            return None
        reading = self.reading(number)
        return (reading.value, self.units.get(unit, unit) if self.units else unit) if reading else None

    def reading(self, number: NumberText) -> Reading | None:
        """The reading that fits the style; None where none or several do."""
        fitting = [one for one in number.readings if self._fits(one)]
        return fitting[0] if len(fitting) == 1 else None

    def _fits(self, reading: Reading) -> bool:
        decimal, thousands = reading.decimal, reading.thousands
        if decimal == ALWAYS_DECIMAL:
            decimal = None
        return (
            (decimal is None or self.decimal is None or decimal == self.decimal)
            and (thousands is None or self.thousands is None or thousands == self.thousands)
            and not (decimal and decimal == self.thousands)
            and not (thousands and thousands == self.decimal)
        )


def unit_of(number: NumberText) -> str:
    """The ISO code of a currency, else the unit as written; empty for none."""
    named = [code for word in [number.unit, *number.unit.split()] if (code := currency(word))]
    return next((code for code in named if code not in SHARED), (*named, number.unit)[0])


@dataclass
class _Evidence:
    """What a column's values show."""

    decimals: Counter[str] = field(default_factory=Counter)
    thousands: Counter[str] = field(default_factory=Counter)
    unclear: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    read: int = 0
    unread: list[str] = field(default_factory=list)
    unread_count: int = 0

    def add(self, text: str) -> None:
        """One cell."""
        number = read_number_text(text)
        if number is None:
            self.unread_count += 1
            if len(self.unread) < _SHOWN:
                self.unread.append(text[:40])
            return
        self.read += 1
        self.units[unit_of(number)] += 1
        self._note("unit", unit_of(number), text)
        if number.separator:
            self.unclear[number.separator] += 1
            self._note("unclear", number.separator, text)
            return
        (reading,) = number.readings
        if reading.decimal:
            self.decimals[reading.decimal] += 1
            self._note("decimal", reading.decimal, text)
        if reading.thousands:
            self.thousands[reading.thousands] += 1
            self._note("thousands", reading.thousands, text)

    def _note(self, role: str, sign: str, text: str) -> None:
        shown = self.examples.setdefault((role, sign), [])
        if len(shown) < _SHOWN and text not in shown:
            shown.append(text[:40])

    def shown(self, role: str, sign: str) -> str:
        """Examples of a sign in a role, quoted."""
        return ", ".join(map(repr, self.examples.get((role, sign), [])))


@dataclass(frozen=True)
class NumberGuess:
    """A style with what led to it."""

    style: NumberStyle
    sentence: str
    """The guess in words, with examples; the option that would say the same stands in ``option``."""
    option: str
    unread: int
    """Cells that hold something and are not a number of this style."""
    currencies: bool
    """Currencies stand beside the numbers, so that a column of them is worth keeping."""


def learn_style(column: str, cells: Iterable[Any], given: Mapping[str, str] | None = None) -> NumberGuess:
    """Decide how a column of text writes its numbers.

    ``given`` are the parts of ``--number COLUMN:decimal=comma,thousands=dot,unit=strip``; what it leaves open is
    decided from the cells. SettingsError where values contradict each other, where nothing settles how "1.299" is to
    be read, or where several currencies stand in the column.
    """
    given = dict(given or {})
    evidence = _Evidence()
    texts = [str(cell) for cell in cells if cell is not None and str(cell).strip()]
    for text in texts:
        evidence.add(text)
    units = None if given.get("unit") == "strip" else _units(column, evidence)
    decimal = SIGNS[given["decimal"]] if "decimal" in given else None
    thousands = SIGNS[given["thousands"]] if "thousands" in given else None
    if decimal is None and thousands is None:
        decimal, thousands = _signs(column, evidence)
    style = NumberStyle(decimal, thousands, units)
    read = [(text, value) for text in texts if (value := style.read(text)) is not None]
    return NumberGuess(
        style,
        _sentence(column, style, evidence, read),
        _option(column, style),
        len(texts) - len(read),
        any(currency(unit) for unit in evidence.units if unit),
    )


def _signs(column: str, seen: _Evidence) -> tuple[str | None, str | None]:
    """Decimal sign and thousands separator for the values that are not clear by themselves; None where all are."""
    unclear = [sign for sign in ".," if seen.unclear[sign]]
    roles = {sign: role for sign in unclear if (role := _role(column, sign, seen))}
    decimals = [sign for sign, role in roles.items() if role == "decimal"]
    thousands = [sign for sign, role in roles.items() if role == "thousands"]
    if len(decimals) > 1 or len(thousands) > 1:
        raise _contradiction(column, ".", seen)
    return next(iter(decimals), None), next(iter(thousands), None)


def _role(column: str, sign: str, seen: _Evidence) -> Literal["decimal", "thousands"]:
    """What a sign means in values such as "1.299"; SettingsError where that cannot be given."""
    other = "," if sign == "." else "."
    count = seen.unclear[sign]
    for_decimal = seen.decimals[sign] + seen.thousands[other]
    for_thousands = seen.thousands[sign] + seen.decimals[other]
    if for_decimal and for_thousands:
        raise _contradiction(column, sign, seen)
    if not for_decimal and not for_thousands:
        units = {unit for unit in seen.units if unit}
        if units and units <= ZERO_DECIMALS | {"¥"}:  # yen are whole, yuan are not written in three decimals
            return "thousands"
        raise _question(column, sign, seen)
    if for_decimal + for_thousands < _WEAK * count:
        raise _question(column, sign, seen)
    return "decimal" if for_decimal else "thousands"


def _question(column: str, sign: str, seen: _Evidence) -> SettingsError:
    decimal, thousands = ("dot", "comma") if sign == "." else ("comma", "dot")
    return SettingsError(
        f"column {column!r}: {seen.unclear[sign]} of {seen.read} numbers can be read in two ways "
        f"({seen.shown('unclear', sign)}) and no other value settles it; say --number {column}:decimal={decimal} or "
        f"--number {column}:thousands={decimal},decimal={thousands}"
    )


def _contradiction(column: str, sign: str, seen: _Evidence) -> SettingsError:
    parts = [
        f"{counts[one]} times {role} sign ({seen.shown(role, one)})"
        for one in (sign, "," if sign == "." else ".")
        for role, counts in (("decimal", seen.decimals), ("thousands", seen.thousands))
        if counts[one]
    ]
    return SettingsError(
        f"column {column!r} writes its numbers in several ways: {'; '.join(parts)}; {seen.unclear[sign]} values like "
        f"{seen.shown('unclear', sign)} could be either; say --number {column}:decimal=dot or "
        f"--number {column}:decimal=comma, or write the column in one way"
    )


def _units(column: str, seen: _Evidence) -> dict[str, str]:
    """The units that may stand beside the column's numbers, and what each is called."""
    units = Counter({unit: count for unit, count in seen.units.items() if unit})
    money = {unit: count for unit, count in units.items() if currency(unit)}
    codes = [unit for unit in money if unit not in SHARED]
    if len(codes) == 1 and all(codes[0] in SHARED[sign] for sign in money if sign in SHARED):
        return _with_common_unit(column, seen, dict.fromkeys(money, codes[0]))
    if len(money) > 1:
        counts = ", ".join(f"{unit} {count}" for unit, count in Counter(money).most_common(6))
        raise SettingsError(
            f"column {column!r} holds prices in {len(money)} currencies ({counts}); convert them, split the table, or "
            f"say --number {column}:unit=strip"
        )
    return _with_common_unit(column, seen, {unit: unit for unit in money})


def _with_common_unit(column: str, seen: _Evidence, names: dict[str, str]) -> dict[str, str]:
    """The currency's names, or the one other unit; SettingsError where different units are common."""
    rest = {unit: unit for unit, count in seen.units.items() if unit and unit not in names}
    names |= {unit: unit for unit in rest if seen.units[unit] >= _RARE_UNIT * seen.read}
    common = set(names.values())
    if len(common) > 1 or ("%" in common and seen.units[""] >= _RARE_UNIT * seen.read):
        counts = ", ".join(f"{unit or 'none'} {count}" for unit, count in seen.units.most_common(6))
        raise SettingsError(
            f"column {column!r} holds numbers with different units ({counts}); convert them, or say "
            f"--number {column}:unit=strip"
        )
    return names


def _sentence(column: str, style: NumberStyle, seen: _Evidence, read: list[tuple[str, tuple[float, str]]]) -> str:
    signs = []
    decimal = style.decimal or next((sign for sign, _ in seen.decimals.most_common(1)), None)
    thousands = style.thousands or next((sign for sign, _ in seen.thousands.most_common(1)), None)
    if decimal:
        signs.append(f"decimal {_NAMES.get(decimal, 'sign')}")
    if thousands:
        signs.append(f"thousands {_NAMES[thousands]}")
    if style.units:
        signs.append(f"unit {some(sorted(set(style.units.values())))}")
    telling = sorted(read, key=lambda one: -len(one[0]))[:_SHOWN]
    examples = ", ".join(f"{text[:40]!r} -> {value!r}" for text, (value, _) in telling)
    return f"numbers of {column}: {', '.join(signs) or 'plain'} ({examples})"


def _option(column: str, style: NumberStyle) -> str:
    parts = [
        f"{name}={_NAMES[sign]}" for name, sign in (("decimal", style.decimal), ("thousands", style.thousands)) if sign
    ]
    return f"--number {column}:{','.join(parts)}" if parts else ""


def styles_by_column(options: Iterable[str]) -> dict[str, dict[str, str]]:
    """``price:decimal=comma,thousands=dot,unit=strip`` by column; SettingsError for anything else."""
    found: dict[str, dict[str, str]] = {}
    for text in options:
        column, _, rest = text.rpartition(":")
        parts = dict(part.partition("=")[::2] for part in rest.split(",") if part)
        wrong = [
            key
            for key, value in parts.items()
            if not (key in ("decimal", "thousands") and value in SIGNS)
            and not (key == "unit" and value in ("keep", "strip"))
        ]
        same = parts.get("decimal") is not None and parts.get("decimal") == parts.get("thousands")
        if not column or not parts or wrong or same:
            raise SettingsError(
                f"--number {text!r} must be COLUMN:decimal=SIGN,thousands=SIGN,unit=strip with signs "
                f"{some(SIGNS)} (two different ones)"
            )
        found[column] = parts
    return found
