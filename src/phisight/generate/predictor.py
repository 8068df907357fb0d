"""Model and processor -> answers, in batches with a KV cache.

Speaks to the model through transformers' usual interface only (processor -> tensors -> generate, logits), so any
vision-language model of the library fits.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from phisight.core.errors import EvaluationError, ImageError
from phisight.generate.batches import Batch, Encoder, batches, by_length, split
from phisight.generate.constrained import AnswerGrammar
from phisight.generate.decoding.schedulable import unschedulable
from phisight.generate.number_decoding import Generated, NumberWriter, Rewritten
from phisight.generate.requests import Request, cut_at
from phisight.generate.scheduler import Scheduler

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")

OnFailure = Callable[[int, ImageError], None]
"""Called with the index of a request whose image cannot be used."""


@dataclass(frozen=True)
class Generation:
    """One generated answer."""

    text: str
    """The answer, with the numbers of the number strategy."""
    written: str
    """The text as decoded: what a program sees that knows no number strategy."""
    unread: str | None = None
    """Why nothing is to be read from it (cut, no number that could be decided); None where it can be read as it is."""
    pieces: Sequence[bytes] = field(default=(), compare=False)
    """Bytes of each token that was decoded, empty for special ones; of continuous batching alone."""
    log_probabilities: Sequence[float] | None = field(default=None, compare=False)
    """Natural logarithm of each token's probability; None where batches were decoded, which do not note it."""


@dataclass(frozen=True)
class Likelihood:
    """How probable the model finds a given answer."""

    log_probability: float
    """Natural logarithm, summed over the answer's tokens."""
    tokens: int
    """Tokens of the answer."""
    forced: str
    """What the model says when each token is predicted behind the true ones (teacher forcing): not an answer."""


class Predictor:
    """Answers requests with a model.

    Args:
        model: Any model with ``generate`` and a forward pass that returns ``logits``, on any device, in any dtype.
        processor: Its processor, with a chat template.
        batch_size: Requests that go through the model together; halved for a batch that does not fit into GPU memory.
        max_new_tokens: Longest answer in tokens.
        grammar: Holds answers to a task's template; None means free text.
        numbers: Decides which numbers an answer carries; None means the digits that the model wrote.
        continuous: Answers by continuous batching where the model allows it (``generate/scheduler.py``): the same
            greedy answers, and none waits for the longest of its batch.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        batch_size: int = 16,
        max_new_tokens: int = 64,
        grammar: AnswerGrammar | None = None,
        numbers: NumberWriter | None = None,
        continuous: bool = False,
    ) -> None:
        if batch_size < 1 or max_new_tokens < 1:
            raise EvaluationError(f"batch_size {batch_size} and max_new_tokens {max_new_tokens} must be at least 1")
        self._model, self._processor = model, processor
        self._encoder = Encoder(processor)
        self._pad = processor.tokenizer.pad_token_id
        self._end_ids = _end_ids(model, processor.tokenizer)
        self.grammar = grammar
        self.constrained = grammar is not None
        self._numbers = numbers
        self.numbers = numbers.name if numbers else "text"
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self._continuous = continuous and not unschedulable(model)

    def answers(self, requests: Iterable[Request], *, on_failure: OnFailure | None = None) -> Iterator[tuple[int, str]]:
        """Yield (index of the request, answer), greedily decoded, in the order in which batches are finished.

        Requests are worked off longest first within a window, so memory stays flat however many there are. Without
        ``on_failure`` the error of an image that cannot be used is raised; with it such a request has no answer.
        """
        for index, generation in self.generations(requests, on_failure=on_failure):
            yield index, generation.text

    def generations(
        self, requests: Iterable[Request], *, on_failure: OnFailure | None = None
    ) -> Iterator[tuple[int, Generation]]:
        """Like ``answers``, with the text as decoded and why it is not to be read, if so."""
        if self._continuous:
            yield from self._scheduled(requests, on_failure)
            return
        with _evaluating(self._model):
            for batch in batches(self._encoder, requests, self.batch_size):
                _report(batch, on_failure)
                yield from self._fitted(self._generate, batch)

    def _scheduled(self, requests: Iterable[Request], on_failure: OnFailure | None) -> Iterator[tuple[int, Generation]]:
        scheduler = Scheduler(
            self._model,
            self._processor,
            max_sequences=self.batch_size,
            max_new_tokens=self.max_new_tokens,
            grammar=self.grammar,
            numbers=self._numbers,
        )
        for one in scheduler.run(by_length(requests, self.batch_size), on_failure=on_failure):
            yield one.index, Generation(one.text, one.written, one.unread, one.pieces, one.log_probabilities)

    def likelihoods(
        self, requests: Iterable[Request], answers: Sequence[str], *, on_failure: OnFailure | None = None
    ) -> Iterator[tuple[int, Likelihood]]:
        """Yield (index of the request, likelihood of ``answers[index]``) in one forward pass each, no generation."""

        def score(batch: Batch) -> list[tuple[int, Likelihood]]:
            return self._score(batch, answers)

        with _evaluating(self._model):
            for batch in batches(self._encoder, requests, self.batch_size, answers):
                _report(batch, on_failure)
                yield from self._fitted(score, batch, answers)

    def _fitted(
        self, work: Callable[[Batch], list[_Result]], batch: Batch, suffixes: Sequence[str] | None = None
    ) -> Iterator[_Result]:
        """Results of a batch, halved as often as GPU memory asks for."""
        if batch.inputs is None:
            return
        try:
            results = work(batch)
        except torch.OutOfMemoryError:
            if len(batch.requests) == 1:
                raise
            _LOG.warning("a batch of %d requests does not fit into memory; continuing in halves", len(batch.requests))
            results = None
        if results is not None:
            yield from results
            return
        torch.cuda.empty_cache()
        for half in split(self._encoder, batch, suffixes):
            yield from self._fitted(work, half, suffixes)

    @torch.no_grad()
    def _generate(self, batch: Batch) -> list[tuple[int, Generation]]:
        inputs = self._on_device(batch.inputs)
        prompt = inputs["input_ids"].shape[1]
        constraints = LogitsProcessorList([self.grammar.processor(prompt)]) if self.grammar else None
        with self._numbers.capture(self._model) if self._numbers else nullcontext():
            ids = self._model.generate(
                **inputs,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=self._pad,
                logits_processor=constraints,
            )
        written = self._encoder.answers(ids[:, prompt:])
        rewritten = [Rewritten(text) for text in written]
        if self._numbers:
            counts = [len(request.images) for request in batch.requests]
            rewritten = self._numbers.rewrite(self._model, Generated(inputs, ids, written, counts))
        every = zip(batch.indexes, rewritten, written, self._cut(ids[:, prompt:]), strict=True)
        return [(index, Generation(one.text, own, cut or one.unread)) for index, one, own, cut in every]

    def _cut(self, new: Tensor) -> list[str | None]:
        """For each row of generated ids int64[B, T] that it was cut: it reached the limit without an end token."""
        if new.shape[1] < self.max_new_tokens or not self._end_ids:
            return [None] * len(new)
        ended = torch.isin(new, torch.tensor(self._end_ids, device=new.device)).any(dim=1).tolist()
        return [None if done else cut_at(new.shape[1]) for done in ended]

    @torch.no_grad()
    def _score(self, batch: Batch, answers: Sequence[str]) -> list[tuple[int, Likelihood]]:
        inputs = self._on_device(batch.inputs)
        counts = [self._answer_tokens(request, answers[index]) for index, request in zip(*_pairs(batch), strict=True)]
        accepted = inspect.signature(self._model.forward).parameters
        options: dict[str, Any] = {}
        if "logits_to_keep" in accepted:
            options["logits_to_keep"] = max(counts) + 1
        if "position_ids" in accepted:
            options["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        logits = self._model(**inputs, **options).logits[:, -max(counts) - 1 : -1].float()
        target = inputs["input_ids"][:, -max(counts) :]
        gained = logits.log_softmax(-1).gather(-1, target.clamp(min=0)[..., None])[..., 0]
        forced = logits.argmax(-1)
        results = []
        for row, (index, count) in enumerate(zip(batch.indexes, counts, strict=True)):
            (text,) = self._encoder.answers(forced[row : row + 1, -count:])
            results.append((index, Likelihood(float(gained[row, -count:].sum()), count, text)))
        return results

    def _answer_tokens(self, request: Request, answer: str) -> int:
        """Tokens that the answer adds behind its prompt: the tail of the encoded text."""
        prompt = self._encoder.text(request)
        count = len(self._encoder.tokens(prompt + answer)) - len(self._encoder.tokens(prompt))
        if count < 1:
            raise EvaluationError(f"the answer {answer!r} has no tokens behind its prompt; it cannot be scored")
        return count

    def _on_device(self, inputs: Any) -> dict[str, Tensor]:
        """Tensors on the model's device, real numbers in its dtype."""
        device, dtype = self._model.device, self._model.dtype
        return {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in inputs.items()
        }


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of the model's generation config, and the tokenizer's."""
    config = getattr(model, "generation_config", None)
    found = [getattr(config, "eos_token_id", None), getattr(tokenizer, "eos_token_id", None)]
    return sorted({int(one) for ids in found if ids is not None for one in (ids if isinstance(ids, list) else [ids])})


def _pairs(batch: Batch) -> tuple[list[int], list[Request]]:
    return batch.indexes, batch.requests


def _report(batch: Batch, on_failure: OnFailure | None) -> None:
    for index, error in batch.failures:
        if on_failure is None:
            raise error
        on_failure(index, error)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode, and back as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
