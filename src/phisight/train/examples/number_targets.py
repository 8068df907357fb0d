"""What an example carries besides its text, so that its numbers are learned as ``train.numbers`` says.

text, expected   nothing
digit_weighted   label_weights float32[T]: the first digits of a number count more; mean over the example: 1
head             numbers float64[T]: what the number head is to predict, where its first digit is predicted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from phisight.core.errors import SettingsError
from phisight.core.settings import Numbers
from phisight.core.task import Task
from phisight.generate import number_positions, token_bytes
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
        self._bytes = token_bytes(tokenizer) if numbers in ("digit_weighted", "head") else {}

    def __call__(self, row: Row, labels: Tensor) -> dict[str, Tensor]:
        """Tensors of a row whose example has ``labels`` int64[T], by the names under which the model takes them."""
        if not self._bytes or not self.fields:
            return {}
        pieces = [self._bytes.get(token, b"") for token in labels[labels != IGNORED].tolist()]
        places = self._places(row, pieces)
        if self._numbers == "head":
            return {"numbers": self._before(row, labels, places)}
        return {"label_weights": _weights(labels, pieces, places)}

    def _places(self, row: Row, pieces: Sequence[bytes]) -> dict[str, int]:
        answer = self._task.render(row)
        places = number_positions(self._task, pieces, answer)
        if places is None:
            text = b"".join(pieces).decode(errors="replace")
            raise SettingsError(
                f"train.numbers={self._numbers}: the tokens spell {text[:60]!r}, the answer is {answer[:60]!r}; this "
                "tokenizer changes texts, so choose text"
            )
        return places

    def _before(self, row: Row, labels: Tensor, places: Mapping[str, int]) -> Tensor:
        """float64[T]: each number at the place before its first token, NaN elsewhere."""
        first, values = int((labels != IGNORED).long().argmax()), self._task.values(row)
        numbers = torch.full((len(labels),), torch.nan, dtype=torch.float64)
        for name, place in places.items():
            numbers[first + place - 1] = float(values[name])
        return numbers


def _weights(labels: Tensor, pieces: Sequence[bytes], places: Mapping[str, int]) -> Tensor:
    """float32[T]: weights of the labels with the mean 1, 0 where there is none."""
    by_piece = [1.0] * len(pieces)
    for place in places.values():
        by_digit = digit_weights(b"".join(pieces[place:]))
        for piece in range(place, len(pieces)):
            size = len(pieces[piece])
            if not size or not by_digit:
                break
            by_piece[piece], by_digit = max(by_digit[:size]), by_digit[size:]
    weights = torch.zeros(len(labels))
    weights[labels != IGNORED] = torch.tensor(by_piece)
    return weights * len(pieces) / weights.sum()


def digit_weights(text: bytes) -> list[float]:
    """A weight for each byte of the number that a text begins with: digits fall from FIRST_DIGIT towards 1."""
    weights, digits = [], 0
    for byte in text.removeprefix(b" "):
        digit = 0x30 <= byte <= 0x39
        if not digit and byte not in b"-.eE":
            break
        weights.append(1.0 + (FIRST_DIGIT - 1.0) * DECAY**digits if digit else 1.0)
        digits += digit
    return [1.0] * (len(text) - len(text.removeprefix(b" "))) + weights


def number_targets(numbers: Numbers, model: Any, processor: Any, task: Task, rows: Sequence[Row]) -> NumberTargets:
    """What examples are to carry; the model gets a head scaled to ``rows``, or loses one that will not train.

    A task without a number field has nothing to learn otherwise: no head, no weights.
    """
    attach_head(model, _new_head(model, task, rows) if numbers == "head" and task.of_kind("number") else None)
    return NumberTargets(numbers, task, processor.tokenizer)


def _new_head(model: Any, task: Task, rows: Sequence[Row]) -> NumberHead:
    fields = task.of_kind("number")
    values = [task.values(row) for row in rows]
    return NumberHead.fit(
        bearer(model).config.hidden_size, {name: [float(one[name]) for one in values] for name in fields}
    )
