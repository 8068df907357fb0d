"""What goes over the wire is the protocol's: raw answers against the official package's types, requests likewise.

The client itself reads leniently (``construct``), so its answers prove little; here every byte is validated, and
nothing may be there that the types do not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

import httpx
import pytest

pytest.importorskip("openai", reason="the official client is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.shared import ErrorObject
from pydantic import BaseModel, TypeAdapter, ValidationError

from phisight.serve.protocol.chat_request import NEUTRAL, ChatRequest
from tests.helpers import served

_T = TypeVar("_T", bound=BaseModel)
URL = served.data_url(served.image_bytes(side=48))
WHOLE: tuple[Any, TypeAdapter[Any]] = (
    CompletionCreateParamsNonStreaming,
    TypeAdapter(CompletionCreateParamsNonStreaming),
)
STREAMING: tuple[Any, TypeAdapter[Any]] = (
    CompletionCreateParamsStreaming,
    TypeAdapter(CompletionCreateParamsStreaming),
)
"""Kept: what they validate lazily refers to them."""
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}, "required": ["a"]}
OWN = "the schema of /v1/schema"
BODIES: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "user", "content": "Go."}], "max_tokens": 4},
    "task": {"messages": served.asked(URL)},
    "logprobs": {"messages": served.asked(URL), "logprobs": True, "top_logprobs": 3},
    "logprobs alone": {"messages": served.asked(URL, text="Go."), "logprobs": True, "max_completion_tokens": 9},
    "choices": {"messages": served.asked(URL, text="Go."), "n": 3, "temperature": 1.5, "seed": 3, "max_tokens": 6},
    "stop": {"messages": served.asked(URL), "stop": [", Kind"], "top_p": 0.9},
    "object": {"messages": served.asked(text="JSON?"), "response_format": {"type": "json_object"}, "n": 2},
    "schema": {
        "messages": served.asked(URL, text="JSON?"),
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        "logprobs": True,
    },
    "fields": {
        "messages": served.asked(URL),
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": OWN}},
        "logprobs": True,
    },
    "turns": {
        "messages": [
            {"role": "system", "content": "Short."},
            *served.asked(URL, URL),
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": [{"type": "text", "text": "And?"}]},
        ],
        "max_tokens": 5,
        "response_format": {"type": "text"},
        "user": "somebody",
        "safety_identifier": "x",
    },
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served.running() as (url, _), httpx.Client(base_url=url, timeout=120) as made:
        yield made


def body(client: httpx.Client, name: str, **changes: Any) -> dict[str, Any]:
    """A request by its name, checked against the type of requests."""
    found = {"model": "tiny", **json.loads(json.dumps(BODIES[name])), **changes}
    schema = found.get("response_format", {}).get("json_schema", {})
    if schema.get("schema") == OWN:
        schema["schema"] = client.get("/v1/schema").json()
    as_request(found)
    return found


def as_request(found: Mapping[str, Any]) -> None:
    """ValidationError or AssertionError where a body is no request of the protocol."""
    kind, adapter = STREAMING if found.get("stream") else WHOLE
    assert set(found) <= set(get_type_hints(kind)), "a name that the protocol does not know"
    read_through(adapter.validate_python(found))


def read_through(value: Any) -> None:
    """Read iterables to their ends: pydantic validates them as they are read."""
    if isinstance(value, Mapping):
        for one in value.values():
            read_through(one)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for one in value:
            read_through(one)


def unknown(value: Any, where: str = "") -> list[str]:
    """Places of an answer that its type does not know."""
    if isinstance(value, BaseModel):
        extra = [f"{where}.{name}" for name in value.model_extra or {}]
        fields = {f"{where}.{name}": getattr(value, name) for name in type(value).model_fields}
        return extra + [one for place, field in fields.items() for one in unknown(field, place)]
    if isinstance(value, list):
        return [one for place, item in enumerate(value) for one in unknown(item, f"{where}[{place}]")]
    return []


def valid(kind: type[_T], text: str | bytes) -> _T:
    """JSON as an answer of this kind, strictly, with nothing else in it."""
    found = kind.model_validate_json(text, strict=True)
    assert unknown(found) == []
    return found


@pytest.mark.parametrize("name", BODIES)
def test_answers(client: httpx.Client, name: str) -> None:
    sent = body(client, name)
    answer = valid(ChatCompletion, client.post("/v1/chat/completions", json=sent).raise_for_status().content)
    assert [choice.index for choice in answer.choices] == list(range(sent.get("n", 1)))
    assert answer.usage is not None
    for choice in answer.choices:
        assert (choice.logprobs is not None) == bool(sent.get("logprobs"))


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("name", BODIES)
def test_streams(client: httpx.Client, name: str, usage: bool) -> None:
    sent = body(client, name, stream=True, stream_options={"include_usage": usage})
    events = client.post("/v1/chat/completions", json=sent).raise_for_status().text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [valid(ChatCompletionChunk, event.removeprefix("data: ")) for event in events[:-2]]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    ends = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert sorted(ends) == list(range(sent.get("n", 1)))
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - usage) + [True] * usage
    assert (not chunks[-1].choices) == usage


def test_models(client: httpx.Client) -> None:
    page = client.get("/v1/models").raise_for_status().json()
    assert set(page) == {"object", "data"}
    assert page["object"] == "list"
    (one,) = (valid(Model, json.dumps(value)) for value in page["data"])
    assert valid(Model, client.get(f"/v1/models/{one.id}").raise_for_status().content) == one


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", b'{"model": "other", "messages": [{"role": "user", "content": "x"}]}', 404),
        ("/v1/nothing", b"{}", 404),
        ("/v1/models", b"{}", 405),
    ],
)
def test_errors(client: httpx.Client, path: str, data: bytes, status: int) -> None:
    response = client.post(path, content=data, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    valid(ErrorObject, json.dumps(response.json()["error"]))


def test_every_parameter_of_the_protocol_is_known_or_refused_by_name(client: httpx.Client) -> None:
    """Whatever the types name: this server has it, or refuses it by name; null asks for nothing."""
    names = set(get_type_hints(CompletionCreateParamsStreaming))
    assert set(ChatRequest.model_fields) <= names
    others = sorted(names - set(ChatRequest.model_fields))
    assert len(others) > 10
    for name in others:
        plain = {**BODIES["text"], "model": "tiny", "max_tokens": 1}
        answer = client.post("/v1/chat/completions", json={**plain, name: {"something": [1]}})
        assert served.is_error(answer, 400, "unsupported_parameter"), name
        assert answer.json()["error"]["param"] == name
        for neutral in (None, *NEUTRAL.get(name, ())):
            assert client.post("/v1/chat/completions", json={**plain, name: neutral}).status_code == 200, name


@pytest.mark.parametrize(
    "changes",
    [{"messages": [{"role": "nobody", "content": "x"}]}, {"stop": 3}, {"sizes": 1}, {"n": "many"}, {"messages": 1}],
)
def test_what_is_no_request_is_seen_by_these_checks(changes: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, AssertionError)):
        as_request({"model": "tiny", **BODIES["text"], **changes})


def test_what_is_no_answer_is_seen_by_these_checks(client: httpx.Client) -> None:
    good = client.post("/v1/chat/completions", json=body(client, "logprobs")).json()
    valid(ChatCompletion, json.dumps(good))
    for path in (["id"], ["choices", 0, "finish_reason"], ["choices", 0, "logprobs", "content", 0, "bytes"]):
        bad: Any = json.loads(json.dumps(good))
        place = bad
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = "7"
        if path == ["id"]:
            del place["id"]
        with pytest.raises(ValidationError):
            valid(ChatCompletion, json.dumps(bad))
    with pytest.raises(AssertionError):
        valid(ChatCompletion, json.dumps({**good, "fields": {}}))
