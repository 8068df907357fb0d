"""Targets of an example's numbers, as ``train.numbers`` says.

text, expected   nothing
digit_weighted   label_weights float32[T]: the first digits of a number count more; mean over the example: 1
head             numbers float64[T]: the number head's target, where its first digit is predicted from
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from phisight.core.errors import SettingsError
from phisight.core.kinds.kind import as_number
from phisight.core.settings import Numbers
from phisight.core.task import Task
from phisight.generate import number_positions, token_bytes
from phisight.model.loss import IGNORED
from phisight.model.number_head import NumberHead, attach_head, head_owner

Row = Mapping[str, Any]

FIRST_DIGIT, DECAY = 8.0, 0.5
"""Weight of a number's first digit, and the decay of its excess over 1 with each further digit."""


class NumberTargets:
    """Makes the target tensors of one method."""

    def __init__(self, numbers: Numbers, task: Task, tokenizer: Any) -> None:
        self.fields = task.of_kind("number")
        self._numbers = numbers
        self._task = task
        self._bytes = token_bytes(tokenizer) if numbers in ("digit_weighted", "head") else {}

    def __call__(self, row: Row, labels: Tensor) -> dict[str, Tensor]:
        """Tensors of a row whose example has ``labels`` int64[T], by the names of the model's arguments."""
        if not self._bytes or not self.fields:
            return {}
        pieces = [self._bytes.get(token, b"") for token in labels[labels != IGNORED].tolist()]
        positions = self._positions(row, pieces)
        if self._numbers == "head":
            return {"numbers": self._numbers_before_digits(row, labels, positions)}
        return {"label_weights": _weights(labels, pieces, positions)}

    def _positions(self, row: Row, pieces: Sequence[bytes]) -> dict[str, int]:
        answer = self._task.render(row)
        positions = number_positions(self._task, pieces, answer)
        if positions is None:
            text = b"".join(pieces).decode(errors="replace")
            raise SettingsError(
                f"train.numbers={self._numbers}: the tokens spell {text[:60]!r}, the answer is {answer[:60]!r}; this "
                "tokenizer does not reproduce texts, so set train.numbers to text"
            )
        return positions

    def _numbers_before_digits(self, row: Row, labels: Tensor, positions: Mapping[str, int]) -> Tensor:
        """float64[T]: each number at the position before its first token, infinite for no value, NaN elsewhere."""
        first, values = int((labels != IGNORED).long().argmax()), self._task.values(row)
        numbers = torch.full((len(labels),), torch.nan, dtype=torch.float64)
        for name, position in positions.items():
            value = values[name]
            numbers[first + position - 1] = torch.inf if value is None else as_number(value)
        return numbers


def _weights(labels: Tensor, pieces: Sequence[bytes], positions: Mapping[str, int]) -> Tensor:
    """float32[T]: weights of the labels with mean 1, 0 where nothing is labeled."""
    by_piece = [1.0] * len(pieces)
    for position in positions.values():
        by_digit = digit_weights(b"".join(pieces[position:]))
        for piece in range(position, len(pieces)):
            size = len(pieces[piece])
            if not size or not by_digit:
                break
            by_piece[piece], by_digit = max(by_digit[:size]), by_digit[size:]
    weights = torch.zeros(len(labels))
    weights[labels != IGNORED] = torch.tensor(by_piece)
    return weights * len(pieces) / weights.sum()


def digit_weights(text: bytes) -> list[float]:
    """A weight for each byte of the number at the start of a text: digits decay from FIRST_DIGIT towards 1."""
    weights, digits = [], 0
    for byte in text.removeprefix(b" "):
        digit = 0x30 <= byte <= 0x39
        if not digit and byte not in b"-.eE":
            break
        weights.append(1.0 + (FIRST_DIGIT - 1.0) * DECAY**digits if digit else 1.0)
        digits += digit
    return [1.0] * (len(text) - len(text.removeprefix(b" "))) + weights


def number_targets(numbers: Numbers, model: Any, processor: Any, task: Task, rows: Sequence[Row]) -> NumberTargets:
    """Targets for the examples; attaches a number head scaled to ``rows``, or detaches one that will not train.

    A task without a number field gets neither head nor weights; a row without a value of an optional one is no target.
    """
    attach_head(model, _new_head(model, task, rows) if numbers == "head" and task.of_kind("number") else None)
    return NumberTargets(numbers, task, processor.tokenizer)


def _new_head(model: Any, task: Task, rows: Sequence[Row]) -> NumberHead:
    fields = task.of_kind("number")
    values = [task.values(row) for row in rows]
    numbers = {name: [as_number(one[name]) for one in values if one[name] is not None] for name in fields}
    for name, known in numbers.items():
        if not known:
            raise SettingsError(f"train.numbers=head: no training row has a value of {name!r}; set it to text")
    return NumberHead.fit(head_owner(model).config.hidden_size, numbers)
