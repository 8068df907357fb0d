"""One request on its way through the engine, and the events that come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from phisight.generate.completions import Completion
from phisight.generate.decoding.sampling import Decoding

Turns = list[dict[str, object]]
"""Chat messages: role, and content of text and image parts, as the processor's template takes them."""


@dataclass(frozen=True)
class Token:
    """A token of an answer."""

    piece: bytes
    """What it adds to the text; empty for special tokens."""
    log_probability: float
    alternatives: list[tuple[bytes, float]]
    """The likeliest tokens' bytes with their log-probabilities."""


@dataclass(frozen=True)
class Delta:
    """An answer goes on."""

    choice: int
    text: str
    tokens: list[Token]


@dataclass(frozen=True)
class Ended:
    """An answer is whole."""

    choice: int
    reason: str
    """stop or length."""
    tokens: list[Token]
    completion: Completion
    """The answer, its text cut before a stop text."""


@dataclass(frozen=True)
class Failed:
    """A request has no answer."""

    error: Exception


Event = Delta | Ended | Failed


@dataclass(eq=False)
class Job:
    """What is asked, and for whom."""

    client: str
    turns: Turns
    images: Sequence[bytes]
    """Image files in the order of their parts."""
    decodings: list[Decoding]
    """One a choice."""
    stops: tuple[str, ...] = ()
    stream: bool = False
    """Whether text is wanted as it is written."""
    created: float = field(default_factory=time.monotonic)
    prompt_tokens: int = 0
    cancelled: bool = False
    open_choices: int = field(init=False)
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.open_choices = len(self.decodings)

    async def every_event(self) -> AsyncIterator[Delta | Ended]:
        """Events until every choice has ended; raises the error of a request that failed."""
        left = len(self.decodings)
        while left:
            event = await self.events.get()
            if isinstance(event, Failed):
                raise event.error
            left -= isinstance(event, Ended)
            yield event

    async def ended(self) -> Ended:
        """The end of a job of one choice; raises the error of a request that failed."""
        async for event in self.every_event():
            if isinstance(event, Ended):
                return event
        raise AssertionError("a job ends or fails")

    def usage(self, written: int) -> dict[str, int]:
        """Tokens read and so many written, as the protocol names them."""
        read = self.prompt_tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
