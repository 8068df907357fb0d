"""Kinds of JSON values, each with the fewest bytes that one takes.

Object(name: Text, sizes: Array(Number))
  = {"name": "  text  ", "sizes": [  number , number  ]}      ", " and ": " as Python's json writes them
"""

from __future__ import annotations

from dataclasses import dataclass, field

NEVER = 1 << 40
"""Bytes of a value that has no end."""


@dataclass(eq=False)
class Node:
    """A kind of value; ``least`` is the fewest bytes it takes."""

    least: int = field(default=NEVER, init=False)

    def parts(self) -> list[Node]:
        """Nodes it is made of."""
        return []

    def shortest(self) -> int:
        """Fewest bytes, from those of its parts."""
        raise NotImplementedError


@dataclass(eq=False)
class Literal(Node):
    """Fixed text."""

    text: bytes

    def shortest(self) -> int:
        """Its length."""
        return len(self.text)


@dataclass(eq=False)
class Text(Node):
    """A string of ``fewest`` to ``most`` characters."""

    fewest: int = 0
    most: int | None = None

    def shortest(self) -> int:
        """Quotes and characters."""
        return 2 + self.fewest


@dataclass(eq=False)
class Number(Node):
    """A number without exponent."""

    whole: bool = False
    signed: bool = True

    def shortest(self) -> int:
        """One digit."""
        return 1


@dataclass(eq=False)
class OneOf(Node):
    """One of several."""

    options: list[Node]

    def parts(self) -> list[Node]:
        """The options."""
        return self.options

    def shortest(self) -> int:
        """Of the shortest option."""
        return min((one.least for one in self.options), default=NEVER)


@dataclass(eq=False)
class Array(Node):
    """``fewest`` to ``most`` items."""

    item: Node
    fewest: int = 0
    most: int | None = None

    def parts(self) -> list[Node]:
        """The item."""
        return [self.item]

    def shortest(self) -> int:
        """Brackets, and the items that must be there."""
        return 2 + self.rest(0)

    def rest(self, count: int) -> int:
        """Fewest bytes of the items behind the first ``count``."""
        missing = self.fewest - count
        return min(NEVER, missing * (self.item.least + 2) - (2 if count == 0 else 0)) if missing > 0 else 0


@dataclass(eq=False)
class Object(Node):
    """Members in their order: (key as JSON, value, whether it must be there); or any keys with one kind of value."""

    members: list[tuple[bytes, Node, bool]]
    others: Node | None = None

    def parts(self) -> list[Node]:
        """The values."""
        return [node for _, node, _ in self.members] + ([self.others] if self.others else [])

    def shortest(self) -> int:
        """Braces and the members that must be there."""
        return 2 + self.rest(0, True)

    def rest(self, place: int, first: bool) -> int:
        """Fewest bytes of the members from ``place`` on."""
        needed = [len(key) + 2 + node.least for key, node, required in self.members[place:] if required]
        return min(NEVER, sum(needed) + 2 * len(needed) - (2 if first and needed else 0))


def measure(root: Node) -> None:
    """Set ``least`` of a node and of everything below it; NEVER where a value holds itself without an end."""
    nodes, waiting = [], [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            nodes.append(node)
            waiting += node.parts()
    changed = True
    while changed:
        changed = False
        for node in nodes:
            if (found := min(NEVER, node.shortest())) < node.least:
                node.least, changed = found, True
