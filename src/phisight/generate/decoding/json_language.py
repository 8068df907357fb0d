"""Answers that are JSON of a schema, in the tokens of a tokenizer; always whole when the last token is due."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phisight.generate.decoding.json_automaton import Automaton, States
from phisight.generate.decoding.json_nodes import Node
from phisight.generate.decoding.prefix_tree import ENDS, prefix_tree
from phisight.generate.decoding.sampling import Constraint


class TokenTree:
    """The bytes of a vocabulary as a tree; made once, shared by all languages.

    Args:
        token_bytes: What each token adds to a text.
        end_ids: Tokens that end an answer.
    """

    def __init__(self, token_bytes: Mapping[int, bytes], end_ids: Sequence[int]) -> None:
        self.token_bytes = token_bytes
        self.end_ids = list(end_ids)
        plain = [token for token, text in token_bytes.items() if _is_plain(text)]
        self.plain = torch.tensor(plain, dtype=torch.int64)
        """Tokens that go on with any string: whole characters, none of them special in JSON."""
        known = set(plain)
        self.whole = prefix_tree(token_bytes)
        self.others = prefix_tree({token: text for token, text in token_bytes.items() if token not in known})


class JsonLanguage:
    """The values of a schema.

    Args:
        node: What ``node_of`` makes of a schema.
        tree: The vocabulary.
    """

    def __init__(self, node: Node, tree: TokenTree) -> None:
        self.automaton = Automaton(node)
        self.tree = tree
        self.least_tokens = self.automaton.least(self.automaton.start) + 1
        """Tokens that an answer may need at least, a byte each in the worst case."""
        self._following: dict[States, tuple[Tensor, Tensor]] = {}
        self._lock = threading.Lock()

    def within(self, most_tokens: int) -> BoundedLanguage:
        """The language of answers that are whole within so many tokens, the one that ends them included."""
        return BoundedLanguage(self, most_tokens)

    def following(self, states: States) -> tuple[Tensor, Tensor]:
        """Tokens that fit, int64[n], and the fewest bytes to the end behind each, int64[n]."""
        with self._lock:
            known = self._following.get(states)
            if known is None:
                if len(self._following) > 4096:
                    self._following.clear()
                known = self._following[states] = self._collected(states)
            return known

    def masks_of(self, rows: Sequence[Constraint], vocabulary: int, device: torch.device) -> Tensor:
        """bool[n, vocabulary], for each of its rows the tokens that may come next."""
        masks = torch.zeros(len(rows), vocabulary, dtype=torch.bool)
        for mask, row in zip(masks, rows, strict=True):
            assert isinstance(row, JsonConstraint)
            mask[row.allowed()] = True
        return masks.to(device)

    def _collected(self, states: States) -> tuple[Tensor, Tensor]:
        ids: list[int] = []
        needs: list[int] = []
        plain = self.automaton.in_plain_text(states)
        self._walk(self.tree.others if plain else self.tree.whole, states, ids, needs)
        if None in states:
            ids += self.tree.end_ids
            needs += [-1] * len(self.tree.end_ids)
        found = torch.tensor(ids, dtype=torch.int64), torch.tensor(needs, dtype=torch.int64)
        if not plain:
            return found
        unchanged = torch.full_like(self.tree.plain, self.automaton.least(states))
        return torch.cat([found[0], self.tree.plain]), torch.cat([found[1], unchanged])

    def _walk(self, node: dict[int, Any], states: States, ids: list[int], needs: list[int]) -> None:
        tokens = node.get(ENDS)
        if tokens:
            ids += tokens
            needs += [self.automaton.least(states)] * len(tokens)
        for byte, child in node.items():
            if byte != ENDS and (after := self.automaton.step(states, byte)):
                self._walk(child, after, ids, needs)


@dataclass(frozen=True)
class BoundedLanguage:
    """Answers of a language that are whole within a number of tokens."""

    language: JsonLanguage
    most_tokens: int

    def row(self) -> JsonConstraint:
        """A new answer's way through the language."""
        return JsonConstraint(self.language, self.most_tokens)


class JsonConstraint:
    """Follows one answer through the language, to its end within a number of tokens."""

    def __init__(self, language: JsonLanguage, most_tokens: int) -> None:
        self.language = language
        self._states = language.automaton.start
        self._left = most_tokens

    def allowed(self) -> Tensor:
        """Ids int64[n] of the tokens that may come next and leave room for an end."""
        ids, needs = self.language.following(self._states)
        kept = ids[needs + 2 <= self._left]  # this token, and the one that ends the answer
        return kept if len(kept) else torch.tensor(self.language.tree.end_ids, dtype=torch.int64)

    def advance(self, token: int) -> None:
        """The answer goes on with a token."""
        self._left -= 1
        for byte in self.language.tree.token_bytes.get(token, b""):
            self._states = self.language.automaton.step(self._states, byte)


def _is_plain(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return not any(byte < 0x20 or byte in (0x22, 0x5C, 0x7F) for byte in text)
