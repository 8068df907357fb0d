"""``/v1/chat/completions``: a conversation to a job, events to the protocol's answer.

Three kinds of answers: free text; the task's own, which is held and read as everywhere; JSON of a schema. Where the
schema is the task's, the model answers in the task's form, which it was trained on, and the fields become the JSON.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from phisight.core.task import special_tokens_in
from phisight.generate.decoding.sampling import Decoding, Language
from phisight.serve.delivery import Deadline, EventStream, begun, while_there
from phisight.serve.engine.dispatch import Engine
from phisight.serve.engine.job import Delta, Ended, Job, Token, Turns
from phisight.serve.image_inputs import ImageInputs, Placed
from phisight.serve.protocol.api_error import ApiError, refused
from phisight.serve.protocol.chat_request import ChatRequest, ImagePart, SchemaFormat, TextFormat
from phisight.serve.protocol.typed_request import asks_for_task
from phisight.serve.serve_settings import ServeSettings
from phisight.serve.served_model import ServedModel


@dataclass(frozen=True)
class _Plan:
    """How a request is decoded, and what becomes of the text."""

    grammar: Language | None
    most: int
    numbers: bool
    """Whether the answer is the task's, with its numbers."""
    fields: bool
    """Whether the answer is turned into the JSON of its fields."""


class Chat:
    """The endpoint."""

    def __init__(self, served: ServedModel, engine: Engine, images: ImageInputs, settings: ServeSettings) -> None:
        self._served, self._engine, self._images, self._settings = served, engine, images, settings

    async def __call__(self, asked: ChatRequest, request: Request) -> Response:
        """Answer a request."""
        asked.check()
        self._served.require(asked.model)
        if (asked.n or 1) > self._engine.max_sequences:
            raise refused("n", f"is at most {self._engine.max_sequences} here")
        turns, urls = turns_of(asked)
        plan = self._plan(asked, turns)
        deadline = Deadline(self._settings.timeout_s)
        request.state.log.update(asked.pseudonyms())
        files = await while_there(request, self._images.files(urls), deadline)
        job = self._job(asked, plan, turns, files, request.state.client)
        answer = _Answering(self._served, asked, plan, job)
        self._engine.submit(job)
        try:
            if not asked.stream:
                whole = await while_there(request, answer.whole(), deadline)
                request.state.log.update(answer.usage())
                self._engine.cancel(job)
                return JSONResponse(whole)
            events = await while_there(request, begun(self._streamed(answer, request)), deadline)
        except BaseException:
            self._engine.cancel(job)
            raise
        return EventStream(events, deadline)

    async def _streamed(self, answer: _Answering, request: Request) -> AsyncGenerator[Any, None]:
        try:
            async for event in answer.chunks():
                yield event
        finally:
            request.state.log.update(answer.usage())
            self._engine.cancel(answer.job)

    def _plan(self, asked: ChatRequest, turns: Turns) -> _Plan:
        served, wanted = self._served, asked.response_format
        most, limit = asked.most_tokens, self._settings.max_new_tokens
        name = "max_tokens" if asked.max_tokens is not None else "max_completion_tokens"
        if most is not None and most > limit:
            raise ApiError(400, f"{name} {most} is more than the {limit} allowed", param=name, code="invalid_value")
        own = self._asks_task(turns)
        if wanted is None or isinstance(wanted, TextFormat):
            grammar = served.task_grammar if own and served.held else None
            return _Plan(grammar, most or (served.max_new_tokens if own else limit), own, fields=False)
        if asked.stop is not None:
            raise refused("stop", "would cut the JSON that response_format asks for")
        schema = wanted.json_schema.schema_ if isinstance(wanted, SchemaFormat) else None
        if asks_for_task(schema, served.schema) or (schema is None and own):
            if most is not None and most < served.max_new_tokens:
                needed = f"{name} {most} is less than the {served.max_new_tokens} that the fields may take"
                raise ApiError(400, needed, param=name, code="invalid_value")
            return _Plan(served.task_grammar, served.max_new_tokens, numbers=True, fields=True)
        language = served.language(schema)
        if (most or limit) < language.least_tokens:
            needed = (
                f"{name} {most or limit} is less than the {language.least_tokens} that the shortest answer may take"
            )
            raise ApiError(400, needed, param=name, code="invalid_value")
        return _Plan(language.within(most or limit), most or limit, numbers=False, fields=False)

    def _asks_task(self, turns: Turns) -> bool:
        """Whether a conversation is the task's own question about images."""
        if len(turns) != 1:
            return False
        content = turns[0]["content"]
        if not isinstance(content, list):
            return False
        texts = [part["text"] for part in content if part["type"] == "text"]
        return len(texts) < len(content) and "".join(texts).strip() in ("", self._served.task.prompt)

    def _job(self, asked: ChatRequest, plan: _Plan, turns: Turns, files: list[bytes], client: str) -> Job:
        whole = plan.fields or (plan.numbers and self._served.numbers is not None)
        if plan.numbers and self._asks_task(turns):  # as it was trained: the images, then the question
            turns = self._served.question(len(files))
        choices = asked.n or 1
        seeds = [None if asked.seed is None else (asked.seed + choice) % (1 << 63) for choice in range(choices)]
        decodings = [
            Decoding(
                plan.most,
                plan.grammar,
                plan.numbers,
                asked.temperature or 0.0,
                1.0 if asked.top_p is None else asked.top_p,
                seed,
                asked.top_logprobs or 0,
            )
            for seed in seeds
        ]
        return Job(client, turns, files, decodings, asked.stops, stream=bool(asked.stream) and not whole)


class _Answering:
    """Events of a job as the protocol's objects."""

    def __init__(self, served: ServedModel, asked: ChatRequest, plan: _Plan, job: Job) -> None:
        self._served, self._asked, self._plan, self.job = served, asked, plan, job
        self._written = 0
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": served.name,
        }

    def usage(self) -> dict[str, int]:
        """See ``Job.usage``."""
        return self.job.usage(self._written)

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        choices: dict[int, dict[str, Any]] = {}
        async for event in self.job.every_event():
            if isinstance(event, Ended):
                self._written += len(event.completion.ids)
                choices[event.choice] = {
                    "index": event.choice,
                    "message": {"role": "assistant", "content": self._content(event), "refusal": None},
                    "logprobs": self._logprobs(event.tokens),
                    "finish_reason": event.reason,
                }
        return {**self._head, "choices": [choices[index] for index in sorted(choices)], "usage": self.usage()}

    async def chunks(self) -> AsyncGenerator[Any, None]:
        """The answer as it is written."""
        self._head["object"] = "chat.completion.chunk"
        sent = [("", 0) for _ in self.job.decodings]
        opened: set[int] = set()
        async for event in self.job.every_event():
            if event.choice not in opened:
                opened.add(event.choice)
                yield self._chunk(event.choice, {"role": "assistant", "content": "", "refusal": None})
            text, tokens = sent[event.choice]
            if isinstance(event, Delta):
                sent[event.choice] = text + event.text, tokens + len(event.tokens)
                yield self._chunk(event.choice, {"content": event.text}, event.tokens)
                continue
            self._written += len(event.completion.ids)
            content = self._content(event)
            rest = content[len(text) :] if content.startswith(text) else ""
            if rest or event.tokens[tokens:]:
                yield self._chunk(event.choice, {"content": rest}, event.tokens[tokens:])
            yield self._chunk(event.choice, {}, reason=event.reason)
        if self._asked.stream_options is not None and self._asked.stream_options.include_usage:
            yield {**self._head, "choices": [], "usage": self.usage()}
        yield "[DONE]"

    def _chunk(
        self, choice: int, delta: dict[str, Any], tokens: list[Token] | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        logprobs = self._logprobs(tokens) if tokens is not None else None
        found = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        with_usage = self._asked.stream_options is not None and self._asked.stream_options.include_usage
        return {**self._head, "choices": [found], **({"usage": None} if with_usage else {})}

    def _content(self, event: Ended) -> str:
        if not self._plan.fields:
            return event.completion.text
        parsed = self._served.task.parse(event.completion.text)
        if parsed.values is None:
            raise ApiError(500, f"the answer has no fields: {parsed.reason}", code="no_fields")
        return json.dumps(self._served.task.as_json(parsed.values), ensure_ascii=False)

    def _logprobs(self, tokens: list[Token]) -> dict[str, Any] | None:
        if not self._asked.logprobs:
            return None
        content = [
            {
                **_token(token.piece, token.log_probability),
                "top_logprobs": [_token(piece, value) for piece, value in token.alternatives],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _token(piece: bytes, log_probability: float) -> dict[str, Any]:
    return {
        "token": piece.decode("utf-8", "replace"),
        "logprob": max(log_probability, -9999.0),
        "bytes": list(piece),
    }


def turns_of(asked: ChatRequest) -> tuple[Turns, list[Placed]]:
    """Messages as the chat template takes them, and the images with where they stand.

    ApiError for a text that holds a control token, and for an image in a turn that is not the user's.
    """
    turns: Turns = []
    urls: list[Placed] = []
    for index, message in enumerate(asked.messages):
        where = f"messages[{index}].content"
        role = "system" if message.role == "developer" else message.role
        if isinstance(message.content, str):
            _check_text(message.content, where)
            turns.append({"role": role, "content": message.content})
            continue
        parts: list[dict[str, str]] = []
        for place, part in enumerate(message.content):
            if isinstance(part, ImagePart):
                if role != "user":
                    raise refused(f"{where}[{place}]", f"is an image in a turn of the {role}; images are the user's")
                urls.append((f"{where}[{place}].image_url.url", part.image_url.url))
                parts.append({"type": "image"})
            else:
                parts.append({"type": "text", "text": part.text})
        _check_text("".join(part.get("text", "\n") for part in parts), where)
        turns.append({"role": role, "content": parts})
    return turns, urls


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f"{where} holds half of a surrogate pair", param=where, code="invalid_value") from None
    found = special_tokens_in(text)
    if found:
        raise ApiError(
            400,
            f"{where} holds {found[0]}, a control token of the chat format; leave it out",
            param=where,
            code="control_token",
        )
