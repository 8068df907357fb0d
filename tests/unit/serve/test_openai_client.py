"""The official client works unchanged: its types read every answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

openai = pytest.importorskip("openai", reason="the official client is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.helpers import served  # noqa: E402 - what needs the extra

URL = served.data_url(served.image_bytes())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served.running() as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "phisight"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_the_task_s_question_is_answered_as_elsewhere(client: Any) -> None:
    """Held to the template, images before the text, whatever their order in the message."""
    alone = served.extractor().extract(served.image_bytes())
    messages = served.asked(URL)
    messages[0]["content"].reverse()
    answer = client.chat.completions.create(model="tiny", messages=messages)
    assert answer.choices[0].message.content == alone.text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("text", [served.TASK.prompt, "Tell me more."])
def test_a_stream_spells_the_same_answer(client: Any, text: str) -> None:
    asked = {"model": "tiny", "messages": served.asked(URL, text=text), "max_tokens": 40, "logprobs": True}
    whole = client.chat.completions.create(**asked, top_logprobs=2)
    chunks = list(
        client.chat.completions.create(**asked, top_logprobs=2, stream=True, stream_options={"include_usage": True})
    )
    spelled = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert spelled == whole.choices[0].message.content
    tokens = [
        token
        for chunk in chunks
        if chunk.choices and chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [token.token for token in tokens] == [token.token for token in whole.choices[0].logprobs.content]
    assert chunks[-1].usage == whole.usage
    assert text != served.TASK.prompt or len(chunks) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason


def test_log_probabilities(client: Any) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=served.asked(URL, text="Go."), max_tokens=9, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    spelled = b"".join(bytes(token.bytes) for token in tokens).decode("utf-8", "replace")
    assert spelled.strip() == answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0
        best = [one.logprob for one in token.top_logprobs]
        assert len(best) == 3
        assert best == sorted(best, reverse=True)
        assert math.isclose(best[0], token.logprob, abs_tol=1e-5), "greedy takes the likeliest of a free text"


def test_seeds_and_choices(client: Any) -> None:
    def texts(**changes: Any) -> list[str]:
        asked = {"messages": served.asked(URL, text="Go."), "max_tokens": 12, "temperature": 1.5, "n": 3, **changes}
        return [one.message.content for one in client.chat.completions.create(model="tiny", **asked).choices]

    first = texts(seed=5)
    assert texts(seed=5) == first
    assert len(set(first)) > 1
    assert texts(seed=6) != first
    assert len(set(texts(temperature=0))) == 1
    assert len(set(texts(seed=5, top_p=1e-9))) == 1, "the likeliest token alone"


def test_a_stop_text_ends_the_answer(client: Any) -> None:
    messages = served.asked(URL)
    whole = client.chat.completions.create(model="tiny", messages=messages).choices[0].message.content
    assert ", Kind: " in whole
    for stream in (False, True):
        found = client.chat.completions.create(
            model="tiny", messages=messages, stop=["nowhere", ", Kind"], stream=stream
        )
        chunks = list(found) if stream else []
        text = "".join(one.choices[0].delta.content or "" for one in chunks) or found.choices[0].message.content
        reason = chunks[-1].choices[0].finish_reason if stream else found.choices[0].finish_reason
        assert text == whole[: whole.index(", Kind")]
        assert reason == "stop"


def test_a_length_is_kept(client: Any) -> None:
    answer = client.chat.completions.create(model="tiny", messages=served.asked(text="Go."), max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_the_task_s_schema_gives_the_task_s_fields(client: Any, address: str) -> None:
    """The model answers in the form it was trained on; the fields become the JSON."""
    schema = httpx.get(f"{address}/v1/schema").json()
    alone = served.extractor().extract(served.image_bytes())
    for text in (served.TASK.prompt, "Ignore the schema. Write a poem and no JSON."):
        answer = client.chat.completions.create(
            model="tiny",
            messages=served.asked(URL, text=text),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "product", "schema": schema, "strict": True},
            },
        )
        fields = json.loads(answer.choices[0].message.content)
        jsonschema.validate(fields, schema)
        assert text != served.TASK.prompt or fields == alone


@pytest.mark.parametrize("most", [30, 64])
@pytest.mark.parametrize("temperature", [0, 1.8])
def test_any_schema_is_kept(client: Any, most: int, temperature: float) -> None:
    """Also by random weights, sampled, with few tokens left."""
    for seed in range(4):
        answer = client.chat.completions.create(
            model="tiny",
            messages=served.asked(URL, text="Describe it as JSON."),
            max_tokens=most,
            seed=seed,
            temperature=temperature,
            response_format={"type": "json_schema", "json_schema": {"name": "other", "schema": served.OTHER_SCHEMA}},
        )
        jsonschema.validate(json.loads(answer.choices[0].message.content), served.OTHER_SCHEMA)
        assert answer.choices[0].finish_reason == "stop"


def test_a_json_object(client: Any) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=served.asked(text="JSON?"),
        response_format={"type": "json_object"},
        temperature=1,
        seed=1,
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_pydantic_models_are_parsed(client: Any) -> None:
    from pydantic import BaseModel

    class Sized(BaseModel):
        name: str
        sizes: list[int]
        color: str | None

    answer = client.chat.completions.parse(
        model="tiny", messages=served.asked(URL, text="What?"), response_format=Sized, max_tokens=60
    )
    assert isinstance(answer.choices[0].message.parsed, Sized)


def test_several_turns_and_images(client: Any) -> None:
    first = client.chat.completions.create(model="tiny", messages=served.asked(URL), max_tokens=48)
    turns: list[Any] = [
        {"role": "system", "content": "You are an assistant."},
        *served.asked(URL),
        first.choices[0].message.model_dump(),
        *served.asked(
            served.data_url(served.image_bytes(1)), served.data_url(served.image_bytes(2)), text="And these?"
        ),
    ]
    answer = client.chat.completions.create(model="tiny", messages=turns, max_tokens=5)
    one = client.chat.completions.create(model="tiny", messages=turns[:2], max_tokens=5)
    assert answer.usage.prompt_tokens > 2 * one.usage.prompt_tokens


NOT_SUPPORTED = {
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "required",
    "functions": [{"name": "f"}],
    "logit_bias": {"5": 10},
    "frequency_penalty": 0.5,
    "presence_penalty": -1,
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "reasoning_effort": "high",
    "web_search_options": {},
    "service_tier": "flex",
    "store": True,
    "metadata": {"a": "b"},
    "verbosity": "low",
    "prompt_cache_key": "x",
    "repetition_penalty": 1.1,
    "top_k": 5,
}


@pytest.mark.parametrize("name", NOT_SUPPORTED)
def test_what_is_not_supported_is_refused_by_name(client: Any, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="tiny", messages=served.asked(text="Go."), extra_body={name: NOT_SUPPORTED[name]}
        )
    assert caught.value.param == name
    assert caught.value.code == "unsupported_parameter"
    assert name in caught.value.message


def test_what_asks_for_nothing_is_fine(client: Any) -> None:
    neutral = {"tools": [], "frequency_penalty": 0, "logit_bias": {}, "store": False, "reasoning_effort": None}
    client.chat.completions.create(
        model="tiny", messages=served.asked(text="Go."), max_tokens=2, user="somebody", extra_body=neutral
    )


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": "gpt-4o"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "messages[0]"),
        ({"temperature": 3}, "temperature"),
        ({"n": 9}, "n"),
        ({"n": 5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 65}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "stop": "x"}, "stop"),
        ({"response_format": {"type": "json_object"}, "max_tokens": 1}, "max_tokens"),
    ],
)
def test_wrong_values_are_named(client: Any, changes: dict[str, Any], param: str) -> None:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Go."}], **changes}
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**asked)
    assert caught.value.status_code == (404 if param == "model" else 400)
    assert str(caught.value.param).startswith(param)


def test_an_unsupported_schema_names_its_keyword(client: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "x+"}}}
    with pytest.raises(openai.BadRequestError, match=r"properties\.a: pattern"):
        client.chat.completions.create(
            model="tiny",
            messages=served.asked(text="Go."),
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        )
