"""The model that a server has, and how its answers are held to a language."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from phisight.core.errors import SettingsError
from phisight.core.task import Task
from phisight.generate import AnswerGrammar, NumberWriter, token_bytes
from phisight.generate.completions import Completion
from phisight.generate.decoding.json_language import JsonLanguage, TokenTree
from phisight.generate.decoding.json_schema import any_object, node_of
from phisight.generate.decoding.sampling import Decoding
from phisight.generate.decoding.vocabulary import end_ids
from phisight.generate.requests import messages_of
from phisight.serve.engine.job import Turns
from phisight.serve.protocol.api_error import ApiError
from phisight.serve.protocol.typed_request import schema_of

_MOST_LANGUAGES = 32
_MOST_SCHEMA_BYTES = 100_000


class TypedAnswer(Protocol):
    """Fields of an answer by name, and what is known about them; see ``phisight.extraction.answer.Answer``."""

    text: str
    confidence: dict[str, float]
    interval: dict[str, tuple[float, float]]
    unfamiliar: float | None
    error: str | None

    @property
    def ok(self) -> bool:
        """Whether there are fields."""

    @property
    def overall_confidence(self) -> float | None:
        """Confidence in the least certain field."""

    def items(self) -> Iterable[tuple[str, Any]]:
        """Fields with their values."""


class Reader(Protocol):
    """Reads typed fields off answers."""

    @property
    def task(self) -> Task:
        """Prompt, answer template and typed fields."""

    @property
    def familiarity(self) -> object | None:
        """What scores how unfamiliar images are; None where the model brings none."""

    def read(self, completion: Completion) -> TypedAnswer:
        """The fields of a completion."""


@dataclass(eq=False)
class ServedModel:
    """A loaded model with its task.

    Args:
        name: What clients call it.
        model: See ``Scheduler``.
        processor: Its processor.
        reader: Reads typed fields off its answers.
        max_new_tokens: Longest answer of the task in tokens.
        task_grammar: The task's answers as a language.
        held: Whether answers of the task are held to it without being asked.
        numbers: Decides which numbers an answer carries.
        categories: Values of category fields that answers are held to.
    """

    name: str
    model: Any
    processor: Any
    reader: Reader
    max_new_tokens: int
    task_grammar: AnswerGrammar
    held: bool
    numbers: NumberWriter | None = None
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.schema = schema_of(self.task, self.categories)
        never = set(self.model.generation_config.suppress_tokens or ())
        pieces = {token: piece for token, piece in token_bytes(self.processor.tokenizer).items() if token not in never}
        self._tree = TokenTree(pieces, end_ids(self.model))
        self._languages: OrderedDict[str, JsonLanguage] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def task(self) -> Task:
        """Prompt, answer template and typed fields."""
        return self.reader.task

    @property
    def most_positions(self) -> int:
        """Tokens of prompt and answer together."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    def question(self, images: int) -> Turns:
        """The task's question about so many images."""
        return messages_of(self.task.prompt, images)

    def decoding(self, *, numbers: bool = True) -> Decoding:
        """How an answer of the task is decoded; without ``numbers`` its digits stand as written."""
        return Decoding(self.max_new_tokens, self.task_grammar if self.held else None, numbers)

    def require(self, name: str | None) -> None:
        """ApiError 404 where a request names another model."""
        if name is not None and name != self.name:
            raise ApiError(
                404,
                f"there is no model of that name here; this server has {self.name!r}",
                param="model",
                code="model_not_found",
            )

    def language(self, schema: Any) -> JsonLanguage:
        """The JSON of a schema (None means any object); ApiError 400 names what cannot be held."""
        try:
            key = json.dumps(schema, sort_keys=False)
        except (ValueError, RecursionError):
            key = " " * (_MOST_SCHEMA_BYTES + 1)
        where = "response_format.json_schema.schema"
        if len(key) > _MOST_SCHEMA_BYTES:
            raise ApiError(400, f"{where}: more than {_MOST_SCHEMA_BYTES} bytes", param=where, code="invalid_schema")
        with self._lock:
            known = self._languages.pop(key, None)
            if known is None:
                try:
                    known = JsonLanguage(any_object() if schema is None else node_of(schema), self._tree)
                except (SettingsError, RecursionError) as error:
                    raise ApiError(
                        400, f"response_format.json_schema.{error}", param=where, code="unsupported_schema"
                    ) from None
            self._languages[key] = known
            if len(self._languages) > _MOST_LANGUAGES:
                self._languages.popitem(last=False)
        return known
