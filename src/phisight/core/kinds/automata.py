"""What the pieces of an answer look like, as small automata over bytes; ``generate/grammar.py`` puts them in a row."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

State = Any
"""Position within a part; each part says what its own looks like (hashable)."""
MOST_DECIMALS = 4
"""Digits after the point of a number whose field and training values do not say how many."""


class Part(Protocol):
    """One piece of an answer."""

    @property
    def start(self) -> State:
        """Where it begins."""

    @property
    def open_ended(self) -> bool:
        """Whether it may go on for ever, so that somebody has to see to its end."""

    def step(self, state: State, byte: int) -> State | None:
        """The next state, or none where the byte does not fit."""

    def complete(self, state: State) -> bool:
        """Whether the piece may end here."""


@dataclass(frozen=True)
class Literal:
    """Fixed text; state: bytes already written."""

    text: bytes
    start: State = 0
    open_ended: bool = False

    def step(self, state: State, byte: int) -> State | None:
        """One byte further."""
        return state + 1 if state < len(self.text) and self.text[state] == byte else None

    def complete(self, state: State) -> bool:
        """At its end."""
        return bool(state == len(self.text))


class Choice:
    """One of several texts; state: what is written of it."""

    start: State = b""
    open_ended = False

    def __init__(self, options: Sequence[str]) -> None:
        self._options = {option.encode() for option in options}
        self._prefixes = {option[:end] for option in self._options for end in range(len(option) + 1)}

    def step(self, state: State, byte: int) -> State | None:
        """One byte further along some option."""
        longer = state + bytes([byte])
        return longer if longer in self._prefixes else None

    def complete(self, state: State) -> bool:
        """A whole option is written."""
        return state in self._options


class Text:
    """Free text; state: (something written, last was a space, bytes of an unfinished character).

    Valid UTF-8, no control characters, no white space but single spaces between words, and not the byte ``without``.
    """

    start: State = (False, True, b"")
    open_ended = True

    def __init__(self, without: int | None = None) -> None:
        self._without = without

    def step(self, state: State, byte: int) -> State | None:
        """One byte further."""
        written, spaced, pending = state
        if not pending and byte < 0x80:
            if byte == self._without:
                return None
            if byte == 0x20:
                return None if spaced else (written, True, b"")
            return (True, False, b"") if byte > 0x20 and byte != 0x7F else None
        more = pending + bytes([byte])
        try:
            character = more.decode()
        except UnicodeDecodeError as error:
            return (written, spaced, more) if error.reason == "unexpected end of data" else None
        # C1 controls and white space aside, every beginning of a character can be finished: no dead ends.
        return None if character.isspace() or character < "\xa0" else (True, False, b"")

    def complete(self, state: State) -> bool:
        """Something is written and no character is unfinished."""
        written, _, pending = state
        return bool(written) and not pending


@dataclass(frozen=True)
class Digits:
    """Digits with at most one point; state: (stage, digits in it)."""

    decimals: int | None
    """Digits after the point; None means at most ``most_decimals``."""
    digits: int = 9
    """Most digits before the point."""
    signed: bool = True
    """Whether a minus may stand before them."""
    most_decimals: int = MOST_DECIMALS
    start: State = ("begin", 0)
    open_ended: bool = False

    def step(self, state: State, byte: int) -> State | None:
        """One byte further."""
        stage, count = state
        digit, most = 0x30 <= byte <= 0x39, self.most_decimals if self.decimals is None else self.decimals
        if stage in ("begin", "sign"):
            if stage == "begin" and byte == 0x2D:
                return ("sign", 0) if self.signed else None
            return (("zero" if byte == 0x30 else "whole"), 1) if digit else None
        if stage in ("zero", "whole"):
            if byte == 0x2E and most:
                return ("point", 0)
            return ("whole", count + 1) if digit and stage == "whole" and count < self.digits else None
        return ("fraction", count + 1) if digit and count < most else None

    def complete(self, state: State) -> bool:
        """Digits are written, after the point as many as asked for."""
        stage, count = state
        if stage in ("zero", "whole"):
            return not self.decimals
        return bool(stage == "fraction" and (self.decimals is None or count == self.decimals))


class IsoDate:
    """A day of the calendar as YYYY-MM-DD; state: what is written of it."""

    start: State = b""
    open_ended = False
    _SHAPE = re.compile(rb"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")

    def step(self, state: State, byte: int) -> State | None:
        """One byte further, where some day still begins like this."""
        longer: bytes = state + bytes([byte])
        if len(longer) > len(b"YYYY-MM-DD"):
            return None
        endings = (b"2000-12-28", b"2001-01-11", b"2001-10-30", b"0001-01-01")
        if not any(self._SHAPE.fullmatch(longer + ending[len(longer) :]) for ending in endings):
            return None
        if len(longer) >= len(b"YYYY-MM-D"):
            last = calendar.monthrange(int(longer[:4]), int(longer[5:7]))[1]
            least = int(longer[8:10].ljust(2, b"0"))
            if least > last:
                return None
        return longer

    def complete(self, state: State) -> bool:
        """A whole day is written."""
        return len(state) == len(b"YYYY-MM-DD")


@dataclass(frozen=True)
class Listed:
    """Entries with a separator between them; state: (within the separator, its place or the entry's state).

    No entry holds the separator's first byte.
    """

    entry: Part
    separator: bytes
    open_ended: bool = True

    @property
    def start(self) -> State:
        """The first entry begins."""
        return (False, self.entry.start)

    def step(self, state: State, byte: int) -> State | None:
        """One byte further in the separator or the entry."""
        between, within = state
        if not between and byte == self.separator[0]:
            if not self.entry.complete(within):
                return None
            between, within = True, 0
        if between:
            if self.separator[within] != byte:
                return None
            return (True, within + 1) if within + 1 < len(self.separator) else (False, self.entry.start)
        after = self.entry.step(within, byte)
        return None if after is None else (False, after)

    def complete(self, state: State) -> bool:
        """An entry may end here."""
        between, within = state
        return not between and self.entry.complete(within)


@dataclass(frozen=True)
class Either:
    """One of two pieces; state: that of each, None where it is out of question."""

    first: Part
    second: Part

    @property
    def open_ended(self) -> bool:
        """Whether one of them is."""
        return self.first.open_ended or self.second.open_ended

    @property
    def start(self) -> State:
        """Both are possible."""
        return (self.first.start, self.second.start)

    def step(self, state: State, byte: int) -> State | None:
        """One byte further in each."""
        both = zip((self.first, self.second), state, strict=True)
        after = tuple(None if one is None else part.step(one, byte) for part, one in both)
        return None if after == (None, None) else after

    def complete(self, state: State) -> bool:
        """One of them may end here."""
        both = zip((self.first, self.second), state, strict=True)
        return any(one is not None and part.complete(one) for part, one in both)
