"""Which number an answer carries, where that is not simply the digits the model wrote.

    head       the number head's, read from the hidden state that its first digit is predicted from
    expected   the median of the model's own distribution over digit strings

The number replaces the one in the text, written as the task writes numbers; the rest of the answer stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from phisight.core.errors import CheckpointError
from phisight.core.settings import Numbers
from phisight.core.task import Task
from phisight.generate.decoding.vocabulary import token_bytes
from phisight.generate.digit_distribution import DigitSearch
from phisight.model.number_head import head_of, head_owner

_NO_HEAD = "the model bears no number head; train it with train.numbers=head"
LEAST_MASS = 0.25
"""Probability of the followed digit strings below which their median is none."""


@dataclass(frozen=True)
class Generated:
    """What ``generate`` was given and what it returned for a batch."""

    inputs: Mapping[str, Tensor]
    """Tensors of the prompts, left padded: input_ids and attention_mask int64[B, P], images."""
    ids: Tensor
    """int64[B, P + new]: prompts and answers."""
    texts: list[str]
    """The answers as text."""
    image_counts: list[int] | None = None
    """Images of each row; None means one each."""
    hidden: Tensor | None = None
    """float[B, new, D]: what each token was predicted from, where the caller has it; else what was captured."""

    def number_positions(self, task: Task, pieces: Mapping[int, bytes], row: int) -> dict[str, int] | None:
        """For each number field of a row that has a value the token of the answer that holds its first digit."""
        prompt, text = self.inputs["input_ids"].shape[1], self.texts[row]
        spelled = [pieces.get(token, b"") for token in self.ids[row, prompt:].tolist()]
        found, spans = number_positions(task, spelled, text), task.spans(text)
        if found is None or spans is None:
            return None
        return {
            name: position
            for name, position in found.items()
            if not task.fields[name].is_absent(text[slice(*spans[name])])
        }


@dataclass(frozen=True)
class Rewritten:
    """An answer with the numbers of a strategy."""

    text: str
    unread: str | None = None
    """Why no number could be decided, so that nothing is to be read from it."""


class NumberWriter(Protocol):
    """Decides which numbers answers carry."""

    @property
    def name(self) -> str:
        """The setting that chooses it."""

    def capture(self, model: Any) -> AbstractContextManager[None]:
        """Within it the answers of one batch are generated."""

    def rewrite(self, model: Any, generated: Generated) -> list[Rewritten]:
        """The answers with their numbers."""


class HeadNumbers:
    """Puts the number head's numbers into the answers; the model must bear a head."""

    name = "head"

    def __init__(self, task: Task, tokenizer: Any) -> None:
        self._task = task
        self._bytes = token_bytes(tokenizer)
        self._steps: list[Tensor] = []

    @contextmanager
    def capture(self, model: Any) -> Iterator[None]:
        """Captures the hidden states [B, D] that each token of the answers is predicted from."""
        if head_of(model) is None:
            raise CheckpointError(_NO_HEAD)
        self._steps = []

        def store(_module: Any, _inputs: Any, outputs: Any) -> None:
            self._steps.append(outputs.last_hidden_state[:, -1])

        handle = head_owner(model).model.register_forward_hook(store)
        try:
            yield
        finally:
            handle.remove()

    def rewrite(self, model: Any, generated: Generated) -> list[Rewritten]:
        """The answers with the head's numbers; one that is not in the task's form stays as it is."""
        head = head_of(model)
        if head is None:  # without ``capture``, as the continuous batches do
            raise CheckpointError(_NO_HEAD)
        hidden = torch.stack(self._steps, dim=1) if generated.hidden is None else generated.hidden
        texts = []
        for row, text in enumerate(generated.texts):
            positions = generated.number_positions(self._task, self._bytes, row) or {}
            usable = {
                name: position
                for name, position in positions.items()
                if position < hidden.shape[1] and name in head.fields
            }
            states = hidden[row, list(usable.values())]
            numbers = head.numbers(states, [head.fields.index(name) for name in usable]).tolist()
            texts.append(Rewritten(replaced(self._task, text, dict(zip(usable, numbers, strict=True)))))
        return texts


class ExpectedNumbers:
    """Puts the median of the model's distribution over digit strings into the answers.

    The median, since it is what the mean absolute error asks for, and always a number that the model might write.

    Args:
        task: Its number fields are rewritten.
        tokenizer: Whose tokens spell the digits.
        width: Digit strings followed at once, at most, for each answer.
        floor: Probability under which a string is given up.
    """

    name = "expected"

    def __init__(self, task: Task, tokenizer: Any, *, width: int = 16, floor: float = 4e-3) -> None:
        self._task = task
        self._bytes = token_bytes(tokenizer)
        self._search = DigitSearch(self._bytes, tokenizer.pad_token_id, width, floor)

    def capture(self, model: Any) -> AbstractContextManager[None]:  # noqa: ARG002 - see NumberWriter
        """Nothing to capture."""
        return nullcontext()

    def rewrite(self, model: Any, generated: Generated) -> list[Rewritten]:
        """The answers with the medians; an answer that is not in the task's form stays as it is.

        Where most of the probability belongs to no number that could be followed, a median would be made up of the
        rest: such an answer is not to be read.
        """
        texts, prompt = list(generated.texts), generated.inputs["input_ids"].shape[1]
        unread: list[str | None] = [None] * len(texts)
        positions = [generated.number_positions(self._task, self._bytes, row) for row in range(len(texts))]
        for name in self._task.of_kind("number"):
            cuts = {row: prompt + known[name] for row, known in enumerate(positions) if known and name in known}
            if not cuts:
                continue
            search = self._search.strings(
                model,
                generated.inputs,
                generated.ids,
                cuts,
                image_counts=generated.image_counts,
                behind=_behind(self._task, name),
            )
            for row, strings in search.items():
                mass = sum(strings.values())
                if not strings or mass < LEAST_MASS:
                    unread[row] = unread[row] or (
                        f"field {name!r} has no median: {1 - mass:.0%} of the probability belongs to no number that "
                        "could be followed; train longer, or use train.numbers=text"
                    )
                else:
                    texts[row] = replaced(self._task, texts[row], {name: weighted_median(strings)})
        return [Rewritten(text, why) for text, why in zip(texts, unread, strict=True)]


def _behind(task: Task, name: str) -> str:
    """The text of the answer's template behind a field, up to the next one."""
    return task.answer.split("{" + name + "}", 1)[1].split("{", 1)[0]


def number_writer(numbers: Numbers, task: Task, tokenizer: Any) -> NumberWriter | None:
    """What decides the numbers of a model trained with ``train.numbers``; none where its digits stand as written."""
    if not task.of_kind("number"):
        return None
    if numbers == "head":
        return HeadNumbers(task, tokenizer)
    return ExpectedNumbers(task, tokenizer) if numbers == "expected" else None


def replaced(task: Task, text: str, numbers: Mapping[str, float]) -> str:
    """An answer with other numbers, written as the task writes them; as it is where it does not hold the fields."""
    for name, number in numbers.items():
        spans = task.spans(text)
        if spans is not None:
            first, last = spans[name]
            text = text[:first] + task.fields[name].write(number) + text[last:]
    return text


def weighted_median(weights: Mapping[float, float] | Sequence[tuple[float, float]]) -> float:
    """The smallest value with at least half of the weight at or below it."""
    pairs = sorted(weights.items() if isinstance(weights, Mapping) else weights)
    values, shares = (np.asarray(column) for column in zip(*pairs, strict=True))
    reached = np.cumsum(shares)
    return float(values[np.searchsorted(reached, reached[-1] / 2)])


def number_positions(task: Task, pieces: Sequence[bytes], answer: str) -> dict[str, int] | None:
    """For each number field the token that holds its first digit, counted from the answer's first token.

    Args:
        task: Whose number fields are looked for.
        pieces: Bytes of the answer's tokens, empty for special ones.
        answer: The same as text; a tokenizer may put a space in front of it.

    None where the text is not in the task's form or not what the tokens spell. A field without a value begins at the
    token behind it; the word of an optional field without a value counts as one.
    """
    spans, start = task.spans(answer), b"".join(pieces).find(answer.encode())
    if spans is None or start < 0:
        return None
    found = {}
    for name in task.of_kind("number"):
        left, index = start + len(answer[: spans[name][0]].encode()), 0
        while index < len(pieces) and left >= len(pieces[index]):
            left -= len(pieces[index])
            index += 1
        found[name] = index
    return found
