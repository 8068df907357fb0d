"""JSON values as an automaton over bytes with a stack: what may come next, and how many bytes an end takes at least.

A state is a stack: the frame on top reads bytes, the frames below wait. Each cell of a stack knows the fewest bytes to
the end of the value, so that an answer can be brought to its end within any number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phisight.generate.decoding.json_nodes import NEVER, Array, Literal, Node, Number, Object, OneOf, Text, measure

Frame = tuple[Any, ...]
"""(kind, what it needs to know): literal, text, number, or a node that has not begun."""
MOST_DIGITS, MOST_DECIMALS = 15, 6
_ESCAPES = frozenset(b'"\\/bfnrt')


class Cell:
    """A stack: a frame, what lies below it, and the fewest bytes until it is empty."""

    __slots__ = ("below", "frame", "least")

    def __init__(self, frame: Frame, below: Cell | None, least: int) -> None:
        self.frame, self.below, self.least = frame, below, least


States = frozenset[Cell | None]
"""Where a value may stand; None is its end."""


class Automaton:
    """Steps of a value; equal stacks are one cell, and steps are remembered."""

    def __init__(self, root: Node, most_remembered: int = 200_000) -> None:
        measure(root)
        self.root = root
        self._cells: dict[tuple[Frame, int], Cell] = {}
        self._steps: dict[tuple[States, int], States] = {}
        self._most = most_remembered
        # A tokenizer may begin a text with a space.
        plain = self._push(("node", root), None)
        self.start: States = self._closed({plain, self._push(("literal", b" ", 0), plain)})

    def step(self, states: States, byte: int) -> States:
        """Where the value may stand one byte further; empty where the byte does not fit."""
        known = self._steps.get((states, byte))
        if known is None:
            reached: set[Cell | None] = set()
            for cell in states:
                if cell is not None:
                    reached.update(self._read(cell, byte))
            if len(self._steps) >= self._most:
                self._steps.clear()
            known = self._steps[states, byte] = self._closed(reached)
        return known

    def least(self, states: States) -> int:
        """Fewest bytes to an end."""
        return min((0 if cell is None else cell.least for cell in states), default=NEVER)

    def in_plain_text(self, states: States) -> bool:
        """Within a string of any length, between two characters: any text but quotes and escapes goes on."""
        if len(states) != 1:
            return False
        (cell,) = states
        return cell is not None and cell.frame[0] == "text" and cell.frame[2:] == (-1, b"", False)

    def _push(self, frame: Frame, below: Cell | None) -> Cell:
        key = frame, id(below)
        found = self._cells.get(key)
        if found is None:
            least = min(NEVER, _bytes_left(frame) + (below.least if below else 0))
            found = self._cells[key] = Cell(frame, below, least)
        return found

    def _stacked(self, frames: list[Frame], below: Cell | None) -> Cell | None:
        """Frames on a stack, the first one on top."""
        for frame in reversed(frames):
            below = self._push(frame, below)
        return below

    def _closed(self, states: set[Cell | None]) -> States:
        """Stacks that read a byte, or are at the end."""
        todo, seen, closed = list(states), set(states), set()
        while todo:
            cell = todo.pop()
            if cell is None or cell.frame[0] in ("literal", "text", "number"):
                if cell is None or cell.least < NEVER:
                    closed.add(cell)
                reached = [cell.below] if cell is not None and _may_end(cell.frame) else []
            else:
                reached = [self._stacked(frames, cell.below) for frames in _begun(cell.frame)]
            for one in reached:
                if one not in seen:
                    seen.add(one)
                    todo.append(one)
        return frozenset(closed)

    def _read(self, cell: Cell, byte: int) -> Iterator[Cell | None]:
        """The stack behind a byte."""
        kind = cell.frame[0]
        if kind == "literal":
            _, text, place = cell.frame
            if text[place] == byte:
                yield self._push(("literal", text, place + 1), cell.below) if place + 1 < len(text) else cell.below
        elif kind == "number":
            after = _digit(cell.frame, byte)
            if after is not None:
                yield self._push(after, cell.below)
        else:
            after = _character(cell.frame, byte)
            if after == ("end",):
                yield cell.below
            elif after is not None:
                yield self._push(after, cell.below)


def _begun(frame: Frame) -> list[list[Frame]]:
    """What a frame that reads no byte of its own may become."""
    if frame[0] == "node":
        node = frame[1]
        if isinstance(node, Literal):
            return [[("literal", node.text, 0)]] if node.text else [[]]
        if isinstance(node, Text):
            counted = node.fewest > 0 or node.most is not None
            return [[("literal", b'"', 0), ("text", node, 0 if counted else -1, b"", False)]]
        if isinstance(node, Number):
            return [[("number", node, "begin", 0)]]
        if isinstance(node, OneOf):
            return [[("node", one)] for one in node.options]
        if isinstance(node, Array):
            return [[("literal", b"[", 0), ("items", node, 0)]]
        assert isinstance(node, Object)
        return [[("literal", b"{", 0), ("members", node, 0, True)]]
    if frame[0] == "items":
        _, node, count = frame
        found: list[list[Frame]] = []
        if count >= node.fewest:
            found.append([("literal", b"]", 0)])
        if node.most is None or count < node.most:
            after = count + 1 if node.most is not None else min(count + 1, max(node.fewest, 1))
            comma: list[Frame] = [("literal", b", ", 0)] if count else []
            found.append([*comma, ("node", node.item), ("items", node, after)])
        return found
    return _members(frame)


def _members(frame: Frame) -> list[list[Frame]]:
    """The next member of an object, or its end."""
    _, node, place, first = frame
    comma = b"" if first else b", "
    if place < len(node.members):
        key, value, required = node.members[place]
        found: list[list[Frame]] = [
            [("literal", comma + key + b": ", 0), ("node", value), ("members", node, place + 1, False)]
        ]
        return found if required else [*found, [("members", node, place + 1, first)]]
    found = [[("literal", b"}", 0)]]
    if node.others is not None:
        found.append(
            [
                ("literal", comma + b'"', 0),
                ("text", KEY, 0, b"", False),
                ("literal", b": ", 0),
                ("node", node.others),
                ("members", node, place, False),
            ]
        )
    return found


KEY = Text(1, 64)
"""A key that the answer chooses."""


def _bytes_left(frame: Frame) -> int:
    """Fewest bytes of a frame."""
    kind = frame[0]
    if kind == "literal":
        return len(frame[1]) - int(frame[2])
    if kind == "text":
        _, node, count, pending, escaped = frame
        missing = max(0, node.fewest - count) if count >= 0 else 0
        started = _missing_bytes(pending) + int(escaped)
        return started + max(0, missing - (1 if started else 0)) + 1
    if kind == "number":
        return 0 if _may_end(frame) else 1
    if kind == "items":
        return 1 + int(frame[1].rest(frame[2]))
    if kind == "members":
        return 1 + int(frame[1].rest(frame[2], frame[3]))
    return int(frame[1].least)


def _missing_bytes(pending: bytes) -> int:
    """Bytes that an unfinished character lacks."""
    if not pending:
        return 0
    first = pending[0]
    return (4 if first >= 0xF0 else 3 if first >= 0xE0 else 2) - len(pending)


def _may_end(frame: Frame) -> bool:
    return frame[0] == "number" and frame[2] in ("zero", "whole", "fraction")


def _digit(frame: Frame, byte: int) -> Frame | None:
    """A number one byte further."""
    _, node, stage, count = frame
    digit = 0x30 <= byte <= 0x39
    if stage in ("begin", "sign"):
        if stage == "begin" and byte == 0x2D and node.signed:
            return "number", node, "sign", 0
        return ("number", node, "zero" if byte == 0x30 else "whole", 1) if digit else None
    if stage in ("zero", "whole"):
        if byte == 0x2E and not node.whole:
            return "number", node, "point", 0
        return ("number", node, "whole", count + 1) if digit and stage == "whole" and count < MOST_DIGITS else None
    return ("number", node, "fraction", count + 1) if digit and count < MOST_DECIMALS else None


def _character(frame: Frame, byte: int) -> Frame | None:
    """A string one byte further; ("end",) behind its closing quote."""
    _, node, count, pending, escaped = frame
    if not pending and not escaped and byte == 0x22:
        return ("end",) if count < 0 or count >= node.fewest else None
    if count >= 0 and node.most is not None and count >= node.most and not pending and not escaped:
        return None
    if escaped:
        return ("text", node, _counted(node, count), b"", False) if byte in _ESCAPES else None
    if not pending and byte < 0x80:
        if byte == 0x5C:
            return "text", node, count, b"", True
        return ("text", node, _counted(node, count), b"", False) if byte >= 0x20 and byte != 0x7F else None
    more = pending + bytes([byte])
    try:
        more.decode()
    except UnicodeDecodeError as error:
        return ("text", node, count, more, False) if error.reason == "unexpected end of data" else None
    return "text", node, _counted(node, count), b"", False


def _counted(node: Text, count: int) -> int:
    """Characters so far, as far as they matter."""
    if count < 0:
        return count
    return count + 1 if node.most is not None else min(count + 1, node.fewest)
