"""What an example carries besides its text, so that its numbers are learned as ``train.numbers`` says.

text, expected   nothing
digit_weighted   label_weights float32[T]: the first digits of a number count more; mean over the example: 1
head             numbers float64[K]: what the number head is to predict
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from phisight.core.errors import SettingsError
from phisight.core.settings import Numbers
from phisight.core.task import Task
from phisight.generate import token_bytes
from phisight.model.labels import IGNORED
from phisight.model.number_head import NumberHead, attach_head, bearer

Row = Mapping[str, Any]

FIRST_DIGIT, DECAY = 8.0, 0.5
"""Weight of a number's first digit, and what is left of the excess over 1 with each digit further."""


class NumberTargets:
    """Makes the tensors for one way of learning numbers."""

    def __init__(self, numbers: Numbers, task: Task, tokenizer: Any) -> None:
        self.fields = task.of_kind("number")
        self._numbers = numbers
        self._task = task
        self._bytes = token_bytes(tokenizer) if numbers == "digit_weighted" else {}

    def __call__(self, row: Row, labels: Tensor) -> dict[str, Tensor]:
        """Tensors of a row whose example has ``labels`` int64[T], by the names under which the model takes them."""
        if not self.fields:
            return {}
        if self._numbers == "head":
            values = self._task.values(row)
            return {"numbers": torch.tensor([[float(values[name]) for name in self.fields]], dtype=torch.float64)}
        if self._numbers == "digit_weighted":
            return {"label_weights": self._weights(row, labels)}
        return {}

    def _weights(self, row: Row, labels: Tensor) -> Tensor:
        """float32[T] with the mean 1 where there is a label, 0 elsewhere."""
        trained = labels != IGNORED
        pieces = [self._bytes.get(token, b"") for token in labels[trained].tolist()]
        text, answer = b"".join(pieces), self._task.render(row)
        start = text.find(answer.encode())
        if start < 0:
            raise SettingsError(
                f"train.numbers=digit_weighted: the tokens spell {text.decode(errors='replace')[:60]!r}, the answer is "
                f"{answer[:60]!r}; this tokenizer changes texts, so choose text, expected or head"
            )
        by_byte = [1.0] * len(text)
        for first, last in self._spans(answer):
            for place, weight in zip(
                range(start + first, start + last), digit_weights(text[start + first :]), strict=False
            ):
                by_byte[place] = weight
        weights = torch.zeros(len(labels))
        weights[trained] = torch.tensor(list(_largest(pieces, by_byte)))
        return weights * trained.sum() / weights.sum()

    def _spans(self, answer: str) -> list[tuple[int, int]]:
        """Where the numbers of an answer stand, in bytes."""
        spans = self._task.spans(answer) or {}
        return [
            (len(answer[:first].encode()), len(answer[:last].encode()))
            for name, (first, last) in spans.items()
            if name in self.fields
        ]


def digit_weights(text: bytes) -> list[float]:
    """A weight for each byte of a text that begins with a number: digits fall from FIRST_DIGIT towards 1."""
    weights, digits = [], 0
    for byte in text:
        digit = 0x30 <= byte <= 0x39
        weights.append(1.0 + (FIRST_DIGIT - 1.0) * DECAY**digits if digit else 1.0)
        digits += digit
    return weights


def _largest(pieces: Sequence[bytes], by_byte: Sequence[float]) -> list[float]:
    """The largest weight within each piece; 1 for a piece without bytes (the end of the turn)."""
    weights, place = [], 0
    for piece in pieces:
        weights.append(max(by_byte[place : place + len(piece)], default=1.0))
        place += len(piece)
    return weights


def number_targets(numbers: Numbers, model: Any, processor: Any, task: Task, rows: Sequence[Row]) -> NumberTargets:
    """What examples are to carry; the model gets a head scaled to ``rows``, or loses one that will not train."""
    attach_head(model, _new_head(model, task, rows) if numbers == "head" else None)
    return NumberTargets(numbers, task, processor.tokenizer)


def _new_head(model: Any, task: Task, rows: Sequence[Row]) -> NumberHead:
    fields = task.of_kind("number")
    if not fields:
        raise SettingsError("train.numbers=head needs a number field, and the task has none; choose text")
    values = [task.values(row) for row in rows]
    return NumberHead.fit(
        bearer(model).config.hidden_size, {name: [float(one[name]) for one in values] for name in fields}
    )
