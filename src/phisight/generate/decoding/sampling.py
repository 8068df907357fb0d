"""The next token of each row: greedy or sampled, within what a constraint allows, with log-probabilities.

n rows, V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Constraint(Protocol):
    """Follows one answer and says which tokens may come next."""

    @property
    def language(self) -> Masks:
        """What the answer is held to; rows of one language get their masks together."""

    def advance(self, token: int) -> None:
        """The answer goes on with a token."""


class Masks(Protocol):
    """Makes the masks of several rows at once."""

    def masks_of(self, rows: Sequence[Constraint], vocabulary: int, device: torch.device) -> Tensor:
        """bool[n, vocabulary], for each of its rows the tokens that may come next."""


class Language(Protocol):
    """Answers that a constraint allows."""

    def row(self) -> Constraint:
        """A new answer's way through it."""


@dataclass(frozen=True)
class Decoding:
    """How one request is decoded, where that is not as the scheduler's other ones."""

    max_new_tokens: int
    """Longest answer in tokens."""
    grammar: Language | None = None
    """Holds the answer to a language; None means free text."""
    numbers: bool = True
    """Whether the model's strategy decides the numbers of the answer."""
    temperature: float = 0.0
    """0 means the likeliest token."""
    top_p: float = 1.0
    """Sampled among the likeliest tokens that have this probability together."""
    seed: int | None = None
    """Of the sampling; None means another one each time."""
    top_logprobs: int = 0
    """Alternatives noted for each token."""

    def generator(self) -> torch.Generator | None:
        """A generator on the CPU; None where nothing is sampled."""
        if self.temperature == 0:
            return None
        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return generator


@dataclass(frozen=True)
class Choice:
    """A row's next token."""

    token: int
    log_probability: float
    """Natural logarithm of its probability among all tokens, without constraint and temperature."""
    alternatives: list[tuple[int, float]]
    """The likeliest tokens with theirs, as many as were asked for."""


def choose(
    logits: Tensor,
    constraints: Sequence[Constraint | None],
    decodings: Sequence[Decoding | None],
    generators: Sequence[torch.Generator | None],
    never: Sequence[int] = (),
) -> list[Choice]:
    """The next token of each row.

    Args:
        logits: float[n, V].
        constraints: What each row may go on with; None means anything.
        decodings: How each row is decoded; None means greedily.
        generators: Of the rows that are sampled.
        never: Tokens that are never chosen.
    """
    logits = logits.float()
    total = logits.logsumexp(-1)
    allowed = _allowed(logits, constraints, never)
    chosen = allowed.argmax(-1)
    for row, generator in enumerate(generators):
        decoding = decodings[row]
        if generator is not None and decoding is not None:
            chosen[row] = _sampled(allowed[row], decoding, generator)
    gained = (logits.gather(-1, chosen[:, None])[:, 0] - total).tolist()
    asked = [one.top_logprobs if one else 0 for one in decodings]
    best = (logits - total[:, None]).topk(min(max(asked), logits.shape[-1])) if max(asked, default=0) else None
    choices = []
    for row, (token, log_probability) in enumerate(zip(chosen.tolist(), gained, strict=True)):
        alternatives: list[tuple[int, float]] = []
        if best is not None and asked[row]:
            ids, values = best.indices[row, : asked[row]].tolist(), best.values[row, : asked[row]].tolist()
            alternatives = list(zip(ids, values, strict=True))
        choices.append(Choice(token, log_probability, alternatives))
    return choices


def _allowed(logits: Tensor, constraints: Sequence[Constraint | None], never: Sequence[int]) -> Tensor:
    """Logits float[n, V] with minus infinity where a token may not come."""
    allowed = logits
    if never:
        allowed = allowed.index_fill(-1, torch.tensor(list(never), device=logits.device), float("-inf"))
    rows_of: dict[int, list[int]] = {}
    for row, constraint in enumerate(constraints):
        if constraint is not None:
            rows_of.setdefault(id(constraint.language), []).append(row)
    for rows in rows_of.values():
        held = [one for row in rows if (one := constraints[row]) is not None]
        masks = held[0].language.masks_of(held, logits.shape[-1], logits.device)
        if len(rows) == len(constraints):
            return allowed.masked_fill(~masks, float("-inf"))
        indices = torch.tensor(rows, device=logits.device)
        allowed = allowed.index_copy(0, indices, allowed[indices].masked_fill(~masks, float("-inf")))
    return allowed


def _sampled(logits: Tensor, decoding: Decoding, generator: torch.Generator) -> int:
    """One token drawn from logits float[V]."""
    probabilities = (logits / decoding.temperature).softmax(-1).cpu()
    if decoding.top_p < 1:
        ordered, indices = probabilities.sort(descending=True)
        # A token stays while those before it have less than top_p together: the likeliest one always does.
        ordered = torch.where(ordered.cumsum(-1) - ordered < decoding.top_p, ordered, torch.zeros_like(ordered))
        return int(indices[torch.multinomial(ordered, 1, generator=generator)])
    return int(torch.multinomial(probabilities, 1, generator=generator))
