"""The language of a task's answers as an automaton over bytes.

    "Product: {title}, Category: {category}, Price: {price}"
      = literal, text, literal, one of the known categories, literal, number, end

A state is a set of (part, position within it): where the answer may stand. Every complete text is one that
``Task.parse`` reads: a text field never holds the literal that ends it, because reading cuts at its first occurrence
(behind the last field it is the literal at the end of the answer that counts, so that ``{price}.`` may be ``12.50.``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phisight.core.errors import TaskError
from phisight.core.kinds import Known
from phisight.core.kinds.automata import Choice, Literal, Part, State
from phisight.core.task import Task

States = frozenset[tuple[int, State]]


class Grammar:
    """Parts in a row; steps are remembered, since few states come up again and again."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)
        fields = [at for at, part in enumerate(self._parts) if not isinstance(part, Literal)]
        self._last_field = max(fields, default=0)
        self._steps: dict[tuple[States, int], States] = {}
        self.start: States = self._closed({(0, self._parts[0].start)})

    @classmethod
    def of_known(cls, task: Task, known: Mapping[str, Known] | None = None) -> Grammar:
        """The answers of a task; ``known`` says what the training values of its fields are: the categories, no sign
        where no number is negative, no more digits than they have.
        """
        parts: list[Part] = [Choice(["", " "])]  # a tokenizer may begin a text with a space
        literals = task.answer
        for name in task.names:
            literal, literals = literals.split("{" + name + "}", 1)
            parts += _literal(literal)
            field, seen = task.fields[name], (known or {}).get(name, Known())
            if field.rules.needs_values(field) and not seen.values:
                raise TaskError(
                    f"no values are known for the {field.kind} field {name!r}; hand in those of the training split"
                )
            parts.append(field.part(seen))
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
        """The answer may stand within a free text or a list, which may go on for ever."""
        return any(part < len(self._parts) and self._parts[part].open_ended for part, _ in states)

    def leave_text(self, states: States) -> States:
        """The states without these, where something else is open: they end as soon as they can."""
        outside = frozenset(
            (part, state) for part, state in states if part == len(self._parts) or not self._parts[part].open_ended
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
        within = range(min(furthest, self._last_field))
        passed = max((part for part in within if isinstance(self._parts[part], Literal)), default=-1)
        return frozenset((part, state) for part, state in closed if part > passed)


def _literal(text: str) -> list[Part]:
    """A literal as reading sees it, and the spaces behind it as a part of their own."""
    core = text.rstrip()
    pieces = [core, text[len(core) :]]
    return [Literal(piece.encode()) for piece in pieces if piece]
