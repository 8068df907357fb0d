"""One choice while it is written: its text so far, what may be sent, and where a stop text ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from phisight.generate.completions import Completion, Row
from phisight.serve.engine.job import Delta, Ended, Job, Token


class Writing:
    """Turns tokens of a row into events.

    Args:
        job: What it answers.
        choice: Which of its choices.
        tokenizer: Decodes tokens.
        pieces: Bytes of each token.
    """

    def __init__(self, job: Job, choice: int, tokenizer: Any, pieces: Mapping[int, bytes]) -> None:
        self.job, self.choice = job, choice
        self._tokenizer, self._pieces = tokenizer, pieces
        self._seen = 0
        self._sent = 0
        self._sent_tokens = 0
        self._tokens_so_far: list[Token] = []
        self._read = 0

    @property
    def begun(self) -> bool:
        """Whether it has a token."""
        return self._seen > 0

    def proceed(self, row: Row) -> Delta | Ended | None:
        """What is new in a row: text that may be sent, or the end where a stop text came."""
        new = len(row.ids) - self._seen
        self._seen = len(row.ids)
        if not new or not (self.job.stream or self.job.stops):
            return None
        text = self._text(row.ids)
        cut = self._cut(text)
        if cut is not None:
            index, kept = row.prepared.index, text[:cut].rstrip()
            stopped = Completion(index, kept, text, row.ids, [], row.log_probabilities, row.alternatives)
            return self._ended(stopped, "stop")
        if not self.job.stream:
            return None
        sure = text.rstrip("\N{REPLACEMENT CHARACTER}").rstrip()
        sure = sure[: len(sure) - self._held_back(sure)]
        if len(sure) <= self._sent:
            return None
        delta, self._sent = sure[self._sent :], len(sure)
        tokens = self._tokens(row)
        fresh, self._sent_tokens = tokens[self._sent_tokens :], len(tokens)
        return Delta(self.choice, delta, fresh)

    def end(self, completion: Completion, ends: set[int]) -> Ended:
        """The end of a row that the scheduler ended."""
        cut = self._cut(completion.text)
        if cut is not None:
            return self._ended(replace(completion, text=completion.text[:cut].rstrip()), "stop")
        return self._ended(completion, "stop" if completion.ids[-1] in ends else "length")

    def _ended(self, completion: Completion, reason: str) -> Ended:
        tokens = self._tokens(completion)
        if self.job.stops:
            tokens = _within(tokens, len(completion.text.encode()))
        return Ended(self.choice, reason, tokens, completion)

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).lstrip()

    def _cut(self, text: str) -> int | None:
        """Where the first stop text begins."""
        found = [place for stop in self.job.stops if (place := text.find(stop)) >= 0]
        return min(found, default=None)

    def _held_back(self, text: str) -> int:
        """Characters at the end that may be the beginning of a stop text."""
        longest = 0
        for stop in self.job.stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _tokens(self, row: Row | Completion) -> list[Token]:
        """Tokens that add text; the space that the first one may begin with is not part of the answer."""
        for place in range(self._read, len(row.ids)):
            token = row.ids[place]
            piece = self._pieces.get(token, b"")
            if not piece:
                continue
            piece = piece if self._tokens_so_far else piece.lstrip(b" ")
            others = row.alternatives[place] if place < len(row.alternatives) else []
            named = [(self._pieces.get(other, b"") or self._name(other), value) for other, value in others]
            self._tokens_so_far.append(Token(piece, row.log_probabilities[place], named))
        self._read = len(row.ids)
        return self._tokens_so_far

    def _name(self, token: int) -> bytes:
        return str(self._tokenizer.convert_ids_to_tokens(token)).encode()


def _within(tokens: list[Token], most: int) -> list[Token]:
    """Tokens that begin within so many bytes."""
    kept, place = [], 0
    for token in tokens:
        if place >= most:
            break
        kept.append(token)
        place += len(token.piece)
    return kept
