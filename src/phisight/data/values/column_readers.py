"""How the cells of a text column are read, by kind of field: learned from the whole column before the first row.

A kind without an entry in ``LEARN`` is read cell by cell, as ``Kind.typed`` has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phisight.core.errors import SettingsError, some
from phisight.core.task_field import TaskField
from phisight.data.values.booleans import read_boolean
from phisight.data.values.clean_text import clean_text
from phisight.data.values.date_style import ORDERS, Order, learn_dates, possible_dates
from phisight.data.values.lists import ListStyle, is_list, learn_list
from phisight.data.values.number_style import NumberGuess, learn_style

NO_VALUE = frozenset(("n/a", "na", "n.a.", "nan", "null", "none", "nil", "-", "–", "—", "?"))
"""What stands for no value in a number or date column, in any case."""
_SHOWN = 3


@dataclass(frozen=True)
class ColumnReader:
    """A column's cells to what ``TaskField.typed`` reads."""

    plain: Callable[[Any], Any]
    """A cell that holds something; as it is where it cannot be read, so that its row is rejected with it."""
    sentence: str = ""
    """The guess in words, with examples; empty where there was nothing to guess."""
    option: tuple[str, ...] = ()
    """The option that says the same."""
    unit: Callable[[Any], str | None] | None = None
    """The currency beside a cell's number, where there are currencies in the column."""


Given = Mapping[str, Any]
"""What options say of the columns of one kind, by column."""


def _numbers(column: str, field: TaskField, cells: Sequence[Any], given: Given) -> ColumnReader:
    guess = _number_guess(column, field, [str(cell) for cell in cells], given.get(column))
    style = guess.style

    def plain(cell: Any) -> Any:
        found = style.plain(str(cell))
        return found[0] if found else cell

    def unit(cell: Any) -> str | None:
        found = style.plain(str(cell))
        return (found[1] or None) if found else None

    guessed = style.decimal or style.thousands or style.units
    keeps = guess.currencies and field.kind == "number"
    return ColumnReader(
        plain,
        guess.sentence if guessed else "",
        tuple(guess.option.split(" ", 1)) if guess.option else (),
        unit if keeps else None,
    )


def _number_guess(column: str, field: TaskField, cells: Sequence[str], given: Mapping[str, str] | None) -> NumberGuess:
    """The style of a number column. Where ``1.299`` settles nothing, an integer has no decimal sign."""
    try:
        return learn_style(column, cells, given)
    except SettingsError:
        if field.kind != "integer" or given:
            raise
        for sign in ("dot", "comma"):
            guess = learn_style(column, cells, {"thousands": sign})
            read = [found[0] for cell in cells if (found := guess.style.plain(cell))]
            if not guess.unread and all(float(number).is_integer() for number in read):
                return guess
        raise


def _dates(column: str, _field: TaskField, cells: Sequence[Any], given: Given) -> ColumnReader:
    style = learn_dates(column, cells, given.get(column))

    def plain(cell: Any) -> Any:
        found = style.read(str(cell))
        return found.isoformat() if found else cell

    unclear = [str(cell) for cell in cells if len(set(possible_dates(str(cell)).values())) > 1]
    examples = ", ".join(f"{cell[:40]!r} -> {plain(cell)}" for cell in dict.fromkeys(unclear[:_SHOWN]))
    names = {"dmy": "day first", "mdy": "month first", "ymd": "year first"}
    sentence = f"dates of {column}: {names[style.order]} ({examples})" if unclear else ""
    return ColumnReader(plain, sentence, ("--date", f"{column}:{style.order}") if unclear else ())


def _booleans(column: str, _field: TaskField, cells: Sequence[Any], _given: Given) -> ColumnReader:
    def plain(cell: Any) -> Any:
        found = read_boolean(cell)
        return cell if found is None else "yes" if found else "no"

    found: dict[str, list[str]] = {}
    for cell in dict.fromkeys(map(str, cells)):
        found.setdefault(str(plain(cell)), []).append(cell)
    shown = "; ".join(
        f"{some([repr(one[:20]) for one in found[value]], _SHOWN)} -> {value}"
        for value in ("yes", "no")
        if value in found
    )
    plain_words = all(cell.strip().casefold() in ("yes", "no", "true", "false") for cell in map(str, cells))
    return ColumnReader(plain, "" if plain_words or not shown else f"truth values of {column}: {shown}")


def _lists(column: str, _field: TaskField, cells: Sequence[Any], given: Given) -> ColumnReader:
    style = ListStyle(given[column]) if column in given else learn_list(cells)

    def plain(cell: Any) -> Any:
        entries = style.read(cell)
        return cell if entries is None else json.dumps([clean_text(one).text for one in entries], ensure_ascii=False)

    unclear = [cell for cell in cells if style.separator and not is_list(cell) and style.separator in cell]
    examples = ", ".join(f"{cell[:40]!r} -> {style.read(cell)}" for cell in dict.fromkeys(unclear[:_SHOWN]))
    sentence = f"lists of {column}: entries end at {style.separator!r} ({examples})" if unclear else ""
    return ColumnReader(plain, sentence, ("--list", f"{column}:{style.separator}") if unclear else ())


LEARN: dict[str, Callable[[str, TaskField, Sequence[Any], Given], ColumnReader]] = {
    "number": _numbers,
    "integer": _numbers,
    "date": _dates,
    "boolean": _booleans,
    "list": _lists,
}
OPTION = {"number": "--number", "integer": "--number", "date": "--date", "list": "--list"}
"""The option that says how a kind's columns are written."""


def learned(column: str, field: TaskField, cells: Sequence[Any], given: Given) -> ColumnReader | None:
    """The reader of a column of text, from its cells that hold something; None for a kind that is read as it is.

    SettingsError, with the option that answers, where nothing settles how the column is to be read.
    """
    if field.kind not in LEARN:
        return None
    return LEARN[field.kind](column, field, [cell for cell in cells if not is_no_value(cell, field)], given)


def is_no_value(cell: Any, field: TaskField) -> bool:
    """Whether an optional number, integer or date cell says that there is none."""
    if not field.optional or not field.rules.never_a_sign:
        return False
    return str(cell).strip().casefold() in {*NO_VALUE, field.absent.casefold()}


def orders_by_column(options: Sequence[str]) -> dict[str, Order]:
    """``day:dmy`` by column; SettingsError for anything else."""
    found: dict[str, Order] = {}
    for text in options:
        column, _, order = text.rpartition(":")
        if not column or order not in ORDERS:
            raise SettingsError(f"--date {text!r} must be COLUMN:dmy (day first), COLUMN:mdy or COLUMN:ymd")
        found[column] = order
    return found


def separators_by_column(options: Sequence[str]) -> dict[str, str]:
    """``tags:|`` by column; SettingsError for anything else."""
    found = {}
    for text in options:
        column, _, separator = text.partition(":")
        if not column or not separator:
            raise SettingsError(f"--list {text!r} must be COLUMN:SIGN, the sign between the entries: tags:'|'")
        found[column] = separator
    return found
