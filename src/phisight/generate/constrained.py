"""Constrained decoding: every answer is one the task can read.

At each step the logits of tokens that would leave the task's answer grammar are set to minus infinity. Parse rate is
then 100 % by construction, as long as ``max_new_tokens`` leaves room for an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from phisight.core.kinds.kind import known_values
from phisight.core.task import Task
from phisight.generate.decoding.prefix_tree import ENDS, prefix_tree
from phisight.generate.decoding.sampling import Constraint
from phisight.generate.decoding.vocabulary import token_bytes
from phisight.generate.grammar import Grammar, States

MOST_MASKS = 1024
"""States whose masks are kept: at 32 thousand tokens 32 MB."""


class AnswerGrammar:
    """The answers of a task in the tokens of a tokenizer.

    Args:
        task: Template and fields.
        tokenizer: A tokenizer of the library, SentencePiece-like or byte-level.
        categories: Values of each category field; those of the training split.
        end_ids: Tokens that end an answer (the ``eos_token_id`` of the model's generation config).
        max_text_tokens: Tokens after which a free text must come to its end.
        ranges: Least and largest value of number fields, of the training split as well; without them any number.
        decimals: Their most digits after the point; without them at most four.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: Any,
        categories: Mapping[str, Sequence[str]],
        end_ids: int | Sequence[int],
        max_text_tokens: int = 40,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        decimals: Mapping[str, int] | None = None,
    ) -> None:
        self.grammar = Grammar.of_known(task, known_values(categories, ranges, decimals))
        self.end_ids = [end_ids] if isinstance(end_ids, int) else list(end_ids)
        self.max_text_tokens = max_text_tokens
        self.token_bytes = token_bytes(tokenizer)
        added = tokenizer.added_tokens_decoder  # "</s>" is no word, even where a tokenizer does not call it special
        self._tree = prefix_tree({token: text for token, text in self.token_bytes.items() if token not in added})
        self._allowed: dict[States, Tensor] = {}
        self._masks: Tensor | None = None
        self._lock = threading.Lock()
        self._numbers: dict[States, int] = {}

    def allowed(self, states: States) -> Tensor:
        """Ids int64[n] of the tokens that keep the answer within the grammar."""
        known = self._allowed.get(states)
        if known is None:
            ids = list(self.end_ids) if self.grammar.complete(states) else []
            self._collect(self._tree, states, ids)
            known = self._allowed[states] = torch.tensor(ids or self.end_ids, dtype=torch.int64)
        return known

    def masks(self, states: Sequence[States], vocabulary: int, device: torch.device) -> Tensor:
        """bool[n, vocabulary], for each of n rows the tokens that keep its answer within the grammar.

        A state's mask is made once and kept on the device: few states come up again and again. Safe in any thread.
        """
        with self._lock, torch.inference_mode(False):  # whoever asks next may be in another mode
            return self._masks_of(states, vocabulary, device)

    def _masks_of(self, states: Sequence[States], vocabulary: int, device: torch.device) -> Tensor:
        assert len(states) <= MOST_MASKS, f"{len(states)} rows for {MOST_MASKS} masks"
        if self._masks is None or self._masks.shape[1] != vocabulary or self._masks.device != device:
            self._masks = torch.zeros(64, vocabulary, dtype=torch.bool, device=device)
            self._numbers.clear()
        new = {one for one in states if one not in self._numbers}
        if len(self._numbers) + len(new) > MOST_MASKS:
            self._numbers.clear()
            new = set(states)
        while len(self._numbers) + len(new) > len(self._masks):
            self._masks = torch.cat([self._masks, torch.zeros_like(self._masks)])
        for one in new:
            number = self._numbers[one] = len(self._numbers)
            self._masks[number] = False
            self._masks[number, self.allowed(one).to(device)] = True
        return self._masks[torch.tensor([self._numbers[one] for one in states], device=device)]

    def _collect(self, node: dict[Any, Any], states: States, ids: list[int]) -> None:
        ids += node.get(ENDS, ())
        for byte, child in node.items():
            if byte != ENDS and (after := self.grammar.step(states, byte)):
                self._collect(child, after, ids)

    def row(self) -> RowConstraint:
        """A new answer's way through the grammar."""
        return RowConstraint(self)

    def masks_of(self, rows: Sequence[Constraint], vocabulary: int, device: torch.device) -> Tensor:
        """bool[n, vocabulary]: ``masks`` for rows of this grammar."""
        return self.masks([row.states for row in rows if isinstance(row, RowConstraint)], vocabulary, device)

    def processor(self, prompt_length: int) -> LogitsProcessor:
        """A logits processor for one call of ``generate`` (greedy or sampling) on prompts of this padded length."""
        return _Constraint(self, prompt_length)


class RowConstraint:
    """Follows one answer through the grammar."""

    def __init__(self, answers: AnswerGrammar) -> None:
        self._answers = answers
        self._states = answers.grammar.start
        self._text_tokens = 0

    @property
    def language(self) -> AnswerGrammar:
        """The grammar."""
        return self._answers

    @property
    def states(self) -> States:
        """Where the answer may stand."""
        return self._states

    def allowed(self) -> Tensor:
        """Ids int64[n] of the tokens that may come next."""
        return self._answers.allowed(self._states)

    def advance(self, token: int) -> None:
        """The answer goes on with a token."""
        grammar = self._answers.grammar
        self._states = grammar.walk(self._states, self._answers.token_bytes.get(token, b""))
        self._text_tokens = self._text_tokens + 1 if grammar.in_text(self._states) else 0
        if self._text_tokens >= self._answers.max_text_tokens:
            self._states = grammar.leave_text(self._states)


class _Constraint(LogitsProcessor):
    """Follows each row of a batch through the grammar."""

    def __init__(self, answers: AnswerGrammar, prompt_length: int) -> None:
        self._answers = answers
        self._prompt_length = prompt_length
        self._rows: list[RowConstraint] = []
        self._seen = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores float[B, V] with minus infinity where a token does not fit behind ``input_ids`` int64[B, T]."""
        if not self._rows:
            self._rows = [self._answers.row() for _ in range(input_ids.shape[0])]
        for column in input_ids[:, self._prompt_length + self._seen :].T.tolist():
            self._seen += 1
            for row, token in zip(self._rows, column, strict=True):
                row.advance(token)
        return scores.masked_fill(
            ~self._answers.masks([row.states for row in self._rows], scores.shape[1], scores.device), float("-inf")
        )
