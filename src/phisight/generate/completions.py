"""What becomes of an answer when its last token is there: text, numbers as the strategy decides them, probabilities."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from phisight.generate.constrained import AnswerGrammar
from phisight.generate.decoding.sampling import Choice, Constraint
from phisight.generate.decoding.vocabulary import token_bytes
from phisight.generate.number_decoding import Generated, NumberWriter, Rewritten
from phisight.generate.prepare import Prepared, left_padded
from phisight.generate.requests import cut_at


@dataclass(frozen=True)
class Completion:
    """A finished answer."""

    index: int
    """Number of its request."""
    text: str
    """The answer, with the numbers that the model's strategy decides."""
    written: str
    """The answer as the tokens spell it."""
    ids: list[int]
    """Its tokens, the one that ended it included."""
    pieces: list[bytes]
    """Bytes of each token; empty for special ones."""
    log_probabilities: list[float]
    """Natural logarithm of each token's probability."""
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    """For each token the likeliest ones with theirs, as many as were asked for."""
    unread: str | None = None
    """Why nothing is to be read from it (cut, no number that could be decided); None where it can be read as it is."""
    pooled: Tensor | None = None
    """float32[images, 6M]: the tower's features of each thumbnail, pooled; None where nobody asked for them."""


@dataclass
class Row:
    """One answer in the making."""

    prepared: Prepared
    prompt: int
    """Tokens of the prompt."""
    most: int
    """Longest answer in tokens."""
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    """For each token the likeliest ones with their log-probabilities, as many as were asked for."""
    hidden: list[Tensor] = field(default_factory=list)
    constraint: Constraint | None = None
    generator: torch.Generator | None = None
    pooled: Tensor | None = None

    @classmethod
    def of(cls, prepared: Prepared, grammar: AnswerGrammar | None, most: int) -> Self:
        """A request that has no token yet; ``grammar`` and ``most`` where it brings no decoding of its own."""
        own = prepared.decoding
        language = own.grammar if own else grammar
        return cls(
            prepared,
            prepared.length,
            own.max_new_tokens if own else most,
            constraint=language.row() if language else None,
            generator=own.generator() if own else None,
        )

    def add(self, choice: Choice) -> None:
        """The answer goes on with a token."""
        self.ids.append(choice.token)
        self.log_probabilities.append(choice.log_probability)
        self.alternatives.append(choice.alternatives)

    @property
    def position(self) -> int:
        """Position of the token that goes into the model next."""
        return self.prompt + len(self.ids) - 1


class Finisher:
    """Rows whose last token is there to completions.

    Args:
        model: What wrote them; the strategy ``expected`` asks it again.
        processor: Decodes tokens.
        numbers: Decides which numbers an answer carries; None means the digits that the model wrote.
        at_once: Rows that the strategy ``expected`` asks about together.
        ends: Tokens that end an answer.
    """

    def __init__(
        self, model: Any, processor: Any, numbers: NumberWriter | None, at_once: int, ends: Collection[int]
    ) -> None:
        self._model, self._processor, self._numbers, self._ends = model, processor, numbers, ends
        self._pieces = token_bytes(processor.tokenizer)
        self._pad = processor.tokenizer.pad_token_id
        self._at_once = at_once if self.needs_inputs else 1
        self._waiting: list[Row] = []

    @property
    def needs_inputs(self) -> bool:
        """Whether the tensors of a prompt are asked about again."""
        return self._numbers is not None and self._numbers.name == "expected"

    @property
    def needs_hidden(self) -> bool:
        """Whether the hidden states that tokens are predicted from are read."""
        return self._numbers is not None and self._numbers.name == "head"

    @property
    def waiting(self) -> bool:
        """Whether rows wait for others."""
        return bool(self._waiting)

    def finish(self, rows: list[Row], *, last: bool) -> list[Completion]:
        """Completions of rows; some may wait until more have ended, or ``last`` says that no more will come."""
        self._waiting += rows
        if not self._waiting or (len(self._waiting) < self._at_once and not last):
            return []
        rows, self._waiting = self._waiting, []
        written = [self._decoded(row) for row in rows]
        rewritten = [Rewritten(text) for text in written]
        if decided := [place for place, row in enumerate(rows) if self._decides(row)]:
            numbered = self._numbered([rows[place] for place in decided], [written[place] for place in decided])
            for place, one in zip(decided, numbered, strict=True):
                rewritten[place] = one
        return [
            Completion(
                row.prepared.index,
                one.text,
                own,
                row.ids,
                [self._pieces.get(token, b"") for token in row.ids],
                row.log_probabilities,
                row.alternatives,
                self._cut(row) or one.unread,
                row.pooled,
            )
            for row, one, own in zip(rows, rewritten, written, strict=True)
        ]

    def cancel(self, indexes: Collection[int]) -> None:
        """Drop the rows of these requests."""
        self._waiting = [row for row in self._waiting if row.prepared.index not in indexes]

    def _decides(self, row: Row) -> bool:
        """Whether the strategy decides the numbers of a row."""
        return self._numbers is not None and (row.prepared.decoding is None or row.prepared.decoding.numbers)

    def _cut(self, row: Row) -> str | None:
        return None if not self._ends or row.ids[-1] in self._ends else cut_at(len(row.ids))

    def _decoded(self, row: Row) -> str:
        return str(self._processor.batch_decode([row.ids], skip_special_tokens=True)[0]).strip()

    def _numbered(self, rows: list[Row], written: list[str]) -> list[Rewritten]:
        """Answers with the numbers that the strategy decides."""
        assert self._numbers is not None
        most = max(len(row.ids) for row in rows)
        ends = torch.tensor([[*row.ids, *[self._pad] * (most - len(row.ids))] for row in rows])
        if self.needs_inputs:
            inputs = on_device(self._model, left_padded([row.prepared.inputs for row in rows], self._pad))
        else:
            inputs = {"input_ids": torch.zeros(len(rows), 0, dtype=torch.int64, device=self._model.device)}
        ids = torch.cat([inputs["input_ids"], ends.to(self._model.device)], dim=1)
        hidden = None
        if rows[0].hidden:
            hidden = torch.nn.utils.rnn.pad_sequence([torch.stack(row.hidden) for row in rows], batch_first=True)
            hidden = hidden.to(self._model.device)
        counts = [len(row.prepared.request.images) for row in rows]
        return self._numbers.rewrite(self._model, Generated(inputs, ids, written, counts, hidden))


def on_device(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the model's device, real numbers in its dtype."""
    return {
        name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
        for name, value in inputs.items()
    }
