"""The language of a task's answers as an automaton over bytes.

    "Product: {title}, Category: {category}, Price: {price}"
      = literal, text, literal, one of the known categories, literal, number, end

A state is a set of (part, position within it): where the answer may stand. Every complete text is one that
``Task.parse`` reads: a text field never holds the literal that ends it, because reading cuts at its first occurrence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from phisight.core.errors import TaskError
from phisight.core.task import Task

State = Any
"""Position within a part; each part says what its own looks like (hashable)."""
States = frozenset[tuple[int, State]]
MOST_DECIMALS = 4
"""Most digits after the point where neither the field nor a record of the training rows says how many."""


class Part(Protocol):
    """One piece of an answer."""

    @property
    def start(self) -> State:
        """Where it begins."""

    def step(self, state: State, byte: int) -> State | None:
        """The next state, or none where the byte does not fit."""

    def complete(self, state: State) -> bool:
        """Whether the piece may end here."""


@dataclass(frozen=True)
class Literal:
    """Fixed text; state: bytes already written."""

    text: bytes
    start: State = 0

    def step(self, state: State, byte: int) -> State | None:
        """One byte further."""
        return state + 1 if state < len(self.text) and self.text[state] == byte else None

    def complete(self, state: State) -> bool:
        """At its end."""
        return bool(state == len(self.text))


class Choice:
    """One of several texts; state: what is written of it."""

    start: State = b""

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

    Valid UTF-8, no control characters, no white space but single spaces between words.
    """

    start: State = (False, True, b"")

    def step(self, state: State, byte: int) -> State | None:
        """One byte further."""
        written, spaced, pending = state
        if not pending and byte < 0x80:
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
class Number:
    """Digits with at most one point; state: (stage, digits in it)."""

    decimals: int | None
    """Digits after the point; None means at most ``most_decimals``."""
    digits: int = 9
    """Most digits before the point."""
    signed: bool = True
    """Whether a minus may stand before them."""
    most_decimals: int = MOST_DECIMALS
    start: State = ("begin", 0)

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


class Grammar:
    """Parts in a row; steps are remembered, since few states come up again and again."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)
        self._steps: dict[tuple[States, int], States] = {}
        self.start: States = self._closed({(0, self._parts[0].start)})

    @classmethod
    def of_task(
        cls,
        task: Task,
        categories: Mapping[str, Sequence[str]],
        ranges: Mapping[str, tuple[float, float]] | None = None,
        decimals: Mapping[str, int] | None = None,
    ) -> Grammar:
        """The answers of a task; ``categories`` lists the values of each category field, ``ranges`` the least and the
        largest value of number fields, ``decimals`` their most digits after the point: no sign where none is negative,
        no more digits than they have.
        """
        parts: list[Part] = [Choice(["", " "])]  # a tokenizer may begin a text with a space
        literals = task.answer
        for name in task.names:
            literal, literals = literals.split("{" + name + "}", 1)
            parts += _literal(literal)
            field = task.fields[name]
            if field.kind == "number":
                parts.append(_number(field.decimals, (ranges or {}).get(name), (decimals or {}).get(name)))
            elif field.kind == "text":
                parts.append(Text())
            elif categories.get(name):
                parts.append(Choice(sorted(set(categories[name]))))
            else:
                raise TaskError(
                    f"no values are known for the category field {name!r}; hand in those of the training split"
                )
        return cls(parts + _literal(literals))

    def step(self, states: States, byte: int) -> States:
        """Where the answer may stand one byte further; empty where the byte does not fit."""
        known = self._steps.get((states, byte))
        if known is None:
            reached = {
                (part, after)
                for part, state in states
                if part < len(self._parts) and (after := self._parts[part].step(state, byte)) is not None
            }
            known = self._steps[states, byte] = self._closed(reached)
        return known

    def walk(self, states: States, text: bytes) -> States:
        """``step`` for each byte."""
        for byte in text:
            states = self.step(states, byte)
        return states

    def complete(self, states: States) -> bool:
        """The answer may end here."""
        return any(part == len(self._parts) for part, _ in states)

    def in_text(self, states: States) -> bool:
        """The answer may stand within free text."""
        return any(part < len(self._parts) and isinstance(self._parts[part], Text) for part, _ in states)

    def leave_text(self, states: States) -> States:
        """The states without free text, where something else is open: text ends as soon as it can."""
        outside = frozenset(
            (part, state)
            for part, state in states
            if part == len(self._parts) or not isinstance(self._parts[part], Text)
        )
        return outside or states

    def _closed(self, states: set[tuple[int, State]]) -> States:
        """With the beginnings of the parts that may follow; without what a finished literal rules out."""
        todo, closed = list(states), set(states)
        while todo:
            part, state = todo.pop()
            if part < len(self._parts) and self._parts[part].complete(state):
                following = (part + 1, self._parts[part + 1].start if part + 1 < len(self._parts) else None)
                if following not in closed:
                    closed.add(following)
                    todo.append(following)
        furthest = max((part for part, _ in closed), default=0)
        passed = max((part for part in range(furthest) if isinstance(self._parts[part], Literal)), default=-1)
        return frozenset((part, state) for part, state in closed if part > passed)


def _number(decimals: int | None, known: tuple[float, float] | None, most_decimals: int | None) -> Number:
    """A number that looks like those between the two known ones."""
    most = MOST_DECIMALS if most_decimals is None else most_decimals
    if known is None:
        return Number(decimals, most_decimals=most)
    least, largest = known
    digits = len(f"{max(abs(least), abs(largest)):.0f}")
    return Number(decimals, digits=digits, signed=least < 0, most_decimals=most)


def _literal(text: str) -> list[Part]:
    """A literal as reading sees it, and the spaces behind it as a part of their own."""
    core = text.rstrip()
    pieces = [core, text[len(core) :]]
    return [Literal(piece.encode()) for piece in pieces if piece]
