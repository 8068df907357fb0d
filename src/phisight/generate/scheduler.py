"""Continuous batching: requests join between steps, and leave when their own answer ends.

    prepared requests --prompts of several at once--> rows of a static cache --one token a step for all--> answers

No row waits for the longest answer of a batch. Positions are counted for each row, so that the rotary factors of a row
depend on its own length; one that outgrows the short factors is read again from its prompt.

    scheduler = Scheduler(model, processor, max_sequences=32)
    for completion in scheduler.run(enumerate(requests), on_failure=...): ...

A server calls ``join``, ``step`` and ``cancel`` itself; its requests bring their own ``Decoding``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from phisight.core.errors import EvaluationError, ImageError
from phisight.generate.completions import Completion, Finisher, Row, on_device
from phisight.generate.constrained import AnswerGrammar
from phisight.generate.decoding.sampling import Decoding, choose
from phisight.generate.decoding.schedulable import unschedulable
from phisight.generate.decoding.sequence_cache import SequenceCache
from phisight.generate.decoding.static_step import Outputs, StaticStep, recorder_of
from phisight.generate.decoding.vocabulary import end_ids
from phisight.generate.number_decoding import NumberWriter
from phisight.generate.prepare import Prepared, Preparer, left_padded, prepared
from phisight.generate.requests import Request
from phisight.model.attention import run_step, run_to_last_position
from phisight.model.number_head import head_owner
from phisight.model.vision import pooled_patches

PROMPT_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Most tokens of prompts that go through the model at once."""


class Scheduler:
    """Answers requests with a model, several at a time, each for as long as it needs.

    Args:
        model: A decoder of the library with a key-value cache and sdpa or eager attention, on any device.
        processor: Its processor, with a chat template.
        max_sequences: Answers in the making at once.
        max_new_tokens: Longest answer in tokens.
        grammar: Holds answers to a task's template; None means free text.
        numbers: Decides which numbers an answer carries; None means the digits that the model wrote.
        workers: Threads that decode images and prepare tensors.
        numbers_at_once: Ended answers that the strategy ``expected`` asks about together; None means a full batch.
        pooled: Whether completions bring the tower's pooled features of their images.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        max_sequences: int = 16,
        max_new_tokens: int = 64,
        grammar: AnswerGrammar | None = None,
        numbers: NumberWriter | None = None,
        workers: int = 1,
        numbers_at_once: int | None = None,
        pooled: bool = False,
    ) -> None:
        if max_sequences < 1 or max_new_tokens < 1:
            raise EvaluationError(
                f"max_sequences {max_sequences} and max_new_tokens {max_new_tokens} must be 1 or more"
            )
        self.max_sequences, self.max_new_tokens, self.workers = max_sequences, max_new_tokens, workers
        self.preparer = Preparer(processor)
        self._model, self._pooled = model, pooled
        self._grammar = grammar
        self._pad = processor.tokenizer.pad_token_id
        if reason := unschedulable(model):
            raise EvaluationError(f"continuous batching {reason}")
        self._owner = head_owner(model)
        self._ends = set(end_ids(model))
        self._never = sorted(set(model.generation_config.suppress_tokens or ()))
        text_config = model.config.get_text_config()
        self._short = getattr(text_config, "original_length", None)
        self._cache = SequenceCache(max_sequences)
        self._next = StaticStep(
            self._step,
            self._cache,
            device=model.device,
            dtype=model.dtype,
            window=getattr(text_config, "sliding_window", None),
            record=recorder_of(model.device),
        )
        self._rows: list[Row] = []
        self._again: list[Row] = []
        self._finisher = Finisher(model, processor, numbers, numbers_at_once or max_sequences, self._ends)

    @property
    def free(self) -> int:
        """Requests that may join now."""
        return self.max_sequences - len(self._rows) - len(self._again)

    @property
    def writing(self) -> list[Row]:
        """Answers in the making, with what each has so far."""
        return [*self._rows, *self._again]

    @property
    def busy(self) -> bool:
        """Whether an answer is in the making."""
        return bool(self._rows or self._again or self._finisher.waiting)

    def run(
        self,
        requests: Iterable[tuple[int, Request]],
        *,
        on_failure: Callable[[int, ImageError], None] | None = None,
        decoding_of: Callable[[int], Decoding | None] = lambda _index: None,
    ) -> Iterator[Completion]:
        """Answer numbered requests; yields completions as they end. Memory does not grow with their number.

        ``decoding_of`` gives the decoding of a request by its number; None means as the scheduler does.
        Without ``on_failure`` the error of an image that cannot be used is raised; with it such a request has no
        answer.
        """
        coming = prepared(self.preparer, requests, workers=self.workers, ahead=2 * self.max_sequences)
        at_once, exhausted = max(1, self.max_sequences // 4), False
        with self._evaluating():
            try:
                while not exhausted or self.busy:
                    joining: list[Prepared] = []
                    # A prompt that joins alone costs as much as several that join together.
                    while not exhausted and len(joining) < self.free and (self.free >= at_once or joining):
                        one = next(coming, None)
                        if one is None:
                            exhausted = True
                        elif one.error is None:
                            one.decoding = decoding_of(one.index)
                            joining.append(one)
                        elif on_failure is None:
                            raise one.error
                        else:
                            on_failure(one.index, one.error)
                    yield from self.join(joining)
                    yield from self.step()
            finally:
                coming.close()

    @torch.inference_mode()
    def join(self, requests: Sequence[Prepared]) -> list[Completion]:
        """Take requests in, at most ``free``: their prompts go through the model, and each has its first token."""
        rows = [Row.of(one, self._grammar, self.max_new_tokens) for one in requests]
        ended: list[Row] = []
        for group in self._read_together(sorted(rows, key=lambda row: row.prompt)):
            ended += self._read(group)
        return self._finish(ended) if rows else []

    @torch.inference_mode()
    def cancel(self, indexes: Collection[int]) -> None:
        """Drop the answers to these requests; their rows are free at once."""
        self._leave({id(row) for row in self._rows if row.prepared.index in indexes})
        self._again = [row for row in self._again if row.prepared.index not in indexes]
        self._finisher.cancel(indexes)

    def _read_together(self, rows: list[Row]) -> Iterator[list[Row]]:
        """Rows in groups whose prompts go through the model at once: bounded in memory, and on a CPU in its cache."""
        most = PROMPT_TOKENS.get(self._model.device.type, PROMPT_TOKENS["cuda"])
        group: list[Row] = []
        for row in rows:
            if group and (len(group) + 1) * max(one.prompt for one in [*group, row]) > most:
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        """One token for every answer in the making; returns those that ended."""
        done: list[Row] = []
        if self._again:
            rows, self._again = self._again, []
            done += self._read(rows)
        if self._rows:
            outputs = self._next([row.ids[-1] for row in self._rows], [row.position for row in self._rows])
            done += self._advance(self._rows, *outputs)
        return self._finish(done)

    def _read(self, rows: list[Row]) -> list[Row]:
        """Prompts of new rows (and what those that begin again have written) into the cache; rows that ended."""
        try:
            return self._read_at_once(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        torch.cuda.empty_cache()
        middle = len(rows) // 2
        return self._read(rows[:middle]) + self._read(rows[middle:])

    def _read_at_once(self, rows: list[Row]) -> list[Row]:
        inputs = on_device(self._model, left_padded([self._inputs_of(row) for row in rows], self._pad))
        if self._pooled and "pixel_values" in inputs:
            self._pool(rows, inputs)
        mask = inputs.pop("attention_mask")
        cache = DynamicCache()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        decoder = self._owner.model
        hidden = run_to_last_position(decoder, decoder.embed(**inputs), mask, positions, cache)
        lengths = [row.prompt + len(row.ids) for row in rows]
        room = max(row.prompt + row.most for row in rows)
        self._cache.join(cache, lengths, room)
        self._rows += rows
        for row in rows:
            if not self._may_begin_again(row) and not self._finisher.needs_inputs:
                row.prepared.inputs = {}
        return self._advance(rows, *self._outputs(hidden))

    def _pool(self, rows: list[Row], inputs: dict[str, Tensor]) -> None:
        """Note the pooled features of each row's images; the tower's features take the place of the pixels."""
        embedding = self._owner.model.vision_embed_tokens
        features = embedding.crop_features(inputs.pop("pixel_values"), inputs["image_sizes"])
        inputs["image_features"] = pad_sequence(features, batch_first=True)
        pooled = pooled_patches(torch.stack([one[0] for one in features])).cpu()
        counts = [len(row.prepared.request.images) for row in rows]
        for row, one in zip(rows, torch.split(pooled, counts), strict=True):
            row.pooled = one

    def _inputs_of(self, row: Row) -> dict[str, Tensor]:
        """Tensors of a row's prompt and of what it has written so far."""
        inputs = dict(row.prepared.inputs)
        if row.ids:
            written = torch.tensor([row.ids])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], written], dim=1)
            inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(written)], dim=1)
        return inputs

    def _advance(self, rows: list[Row], logits: Tensor, hidden: Tensor | None) -> list[Row]:
        """Give rows their next token, from logits float[n, V]; those that end leave the cache."""
        choices = choose(
            logits,
            [row.constraint for row in rows],
            [row.prepared.decoding for row in rows],
            [row.generator for row in rows],
            self._never,
        )
        states = [None] * len(rows) if hidden is None else list(hidden.float().cpu())
        ended = []
        for row, choice, state in zip(rows, choices, states, strict=True):
            row.add(choice)
            if state is not None:
                row.hidden.append(state)
            if row.constraint is not None:
                row.constraint.advance(choice.token)
            if choice.token in self._ends or len(row.ids) == row.most:
                ended.append(row)
            elif self._short is not None and row.position == self._short:
                self._again.append(row)
        self._leave({id(row) for row in [*ended, *self._again]})
        return ended

    def _leave(self, leaving: set[int]) -> None:
        """Free the cache's rows of those with these ``id``."""
        for index in reversed(range(len(self._rows))):
            if id(self._rows[index]) in leaving:
                last = self._cache.leave(index)
                self._rows[index] = self._rows[last]
                self._rows.pop()

    def _finish(self, rows: list[Row]) -> list[Completion]:
        return self._finisher.finish(rows, last=not self._rows and not self._again)

    def _may_begin_again(self, row: Row) -> bool:
        return self._short is not None and row.prompt <= self._short < row.prompt + row.most

    def _step(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Outputs:
        decoder = self._owner.model
        return self._outputs(run_step(decoder, decoder.embed_tokens(ids), mask, positions, self._cache))

    def _outputs(self, hidden: Tensor) -> Outputs:
        """Logits [n, V] from hidden states [n, D] and, where a number head reads them, these."""
        return self._owner.lm_head(hidden), hidden if self._finisher.needs_hidden else None

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self._model.training
        self._model.eval()
        try:
            yield
        finally:
            self._model.train(training)
