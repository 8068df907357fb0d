"""The request of ``/v1/chat/completions``: what is not supported is refused by name, unless it asks for nothing."""

from __future__ import annotations

import hashlib
import math
import secrets
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phisight.serve.protocol.api_error import refused

MOST_CHOICES = 8
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "metadata": ({},),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
}
"""Parameters of the protocol that this server does not have, and the values that change nothing; null is one of all."""

_SECRET = secrets.token_bytes(16)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Strict):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    """Where an image is: a data URL, or an address where the server fetches."""

    url: str
    detail: Literal["auto", "high"] | None = None


class ImagePart(_Strict):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @model_validator(mode="after")
    def _nothing_else(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if value not in (None, [], {}, ""):
                raise ValueError(f"{name[:60]} is not supported by this server; leave it out")
        return self


class StreamOptions(_Strict):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class JsonSchema(_Strict):
    """A schema that answers are held to."""

    name: str = Field(default="answer", max_length=64)
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    """False allows answers that miss the schema; they are held to it all the same."""


class TextFormat(_Strict):
    """Free text."""

    type: Literal["text"]


class ObjectFormat(_Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(_Strict):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]
Stop = Annotated[str, Field(min_length=1, max_length=200)]


class ChatRequest(BaseModel):
    """A conversation to be continued."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(max_length=1000)
    messages: list[Message] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1, le=1 << 20)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1 << 20)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: Format | None = None
    user: str | None = Field(default=None, max_length=256)
    safety_identifier: str | None = Field(default=None, max_length=256)

    def check(self) -> None:
        """Refuse what is not supported, and what contradicts itself; ApiError names it."""
        for name, value in (self.model_extra or {}).items():
            if value is not None and not any(value is one or _equal(value, one) for one in NEUTRAL.get(name, ())):
                raise refused(name[:100])
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise refused("max_tokens", "and max_completion_tokens are one thing; give one of them")
        if self.top_logprobs and not self.logprobs:
            raise refused("top_logprobs", "needs logprobs: true")
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "needs stream: true")
        if self.messages[-1].role != "user":
            raise refused(f"messages[{len(self.messages) - 1}].role", "must be user: the last turn is the question")

    def pseudonyms(self) -> dict[str, str]:
        """Who the client asks for, for the log: equal names give equal pseudonyms until this process ends."""
        names = {"user": self.user, "safety_identifier": self.safety_identifier}
        return {
            key: hashlib.blake2b(name.encode("utf-8", "replace"), key=_SECRET, digest_size=8).hexdigest()
            for key, name in names.items()
            if name
        }

    @property
    def most_tokens(self) -> int | None:
        """Longest answer in tokens, as asked for."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


def _equal(value: Any, neutral: Any) -> bool:
    """Equal, and true is not 1."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)
