"""What a request says has an effect, or is refused by name, or is one of the few things that mean none."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import jsonschema
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.serve.delivery import Deadline, EventStream
from tests.helpers import served

URL = served.data_url(served.image_bytes(side=48))


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served.running() as (url, _), httpx.Client(base_url=url, timeout=60) as made:
        yield made


@pytest.mark.parametrize(
    ("query", "name"),
    [("stream=true", "stream"), ("api-version=2024", "api-version"), ("x", "x"), ("=1", "stands"), ("%3Cb%3E=", "<b>")],
)
def test_parameters_in_the_address_are_refused_by_name(client: httpx.Client, query: str, name: str) -> None:
    paths = [
        (method, path) for path, methods in document(client).items() if path.startswith("/v1/") for method in methods
    ]
    assert len(paths) >= 5
    for method, path in [*paths, ("get", "/v1/models/tiny")]:
        answer = client.request(method, f"{path}?{query}", json={"images": [URL]} if method == "post" else None)
        assert served.is_error(answer, 400, "unsupported_parameter"), (method, path)
        assert name in answer.json()["error"]["message"]
    for path in ("/health", "/ready", "/"):
        assert client.get(f"{path}?probe=1").status_code == 200


def document(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json()["paths"])


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
def test_a_user_s_name_changes_nothing_and_is_in_no_log(
    client: httpx.Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts, pseudonyms = [], []
    for value in ("ann@shop.example", "ann@shop.example", "ben@shop.example", None, ""):
        with caplog.at_level(logging.INFO, "phisight.serve"):
            caplog.clear()
            answer = served.chat(client, "Go.", **{name: value})
            texts.append(answer.raise_for_status().json()["choices"][0]["message"])
            deadline = time.monotonic() + 30
            while not caplog.records and time.monotonic() < deadline:  # it is written when the answer is out
                time.sleep(0.01)
            (line,) = [json.loads(one.message) for one in caplog.records if one.name == "phisight.serve"]
        pseudonyms.append(line.get(name))
        assert "shop.example" not in caplog.text
    assert texts == [texts[0]] * len(texts)
    first, again, other, *none = pseudonyms
    assert first == again != other
    assert none == [None, None]


@pytest.mark.parametrize("strict", [True, False, None])
def test_answers_are_held_whether_strict_or_not(client: httpx.Client, strict: bool | None) -> None:
    """False allows answers that miss the schema; none does."""
    schema = {"type": "object", "properties": {"size": {"enum": [1, 2]}}, "required": ["size"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": strict}}
    for seed in range(3):
        answer = served.chat(client, "Go.", response_format=wanted, temperature=2, seed=seed, max_tokens=40)
        jsonschema.validate(json.loads(answer.json()["choices"][0]["message"]["content"]), schema)


@pytest.mark.parametrize(
    ("number", "held"),
    [
        ({"type": "integer", "minimum": 0}, True),
        ({"type": "number", "minimum": 0}, True),
        ({"type": "integer", "minimum": -5, "maximum": 994}, True),
        ({"type": "integer", "minimum": 0, "maximum": 1000}, False),
        ({"type": "integer", "minimum": 1}, False),
        ({"type": "integer", "maximum": 9}, False),
        ({"type": "number", "minimum": 0, "maximum": 1}, False),
        ({"type": "integer", "exclusiveMinimum": 0}, False),
        ({"type": "integer", "multipleOf": 2}, False),
    ],
)
def test_the_ranges_of_numbers_that_the_documents_name(
    client: httpx.Client, number: dict[str, Any], held: bool
) -> None:
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = served.chat(client, "Go.", response_format=wanted, max_tokens=40, temperature=2, seed=1)
    if held:
        jsonschema.validate(json.loads(answer.json()["choices"][0]["message"]["content"]), schema)
    else:
        assert served.is_error(answer, 400, "unsupported_schema")
        assert "properties.n" in answer.json()["error"]["message"]


def test_a_deadline_counts_from_the_arrival_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was spent before the first event of a stream is not given once more."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    deadline = Deadline(10)
    now[0] += 9
    assert deadline.left == 1
    now[0] += 9
    assert deadline.left == 0
    monkeypatch.undo()
    monkeypatch.setattr(Deadline, "left", 0.0)
    sent: list[dict[str, Any]] = []

    async def endless() -> AsyncGenerator[Any, None]:
        while True:
            yield {"more": 1}
            await asyncio.sleep(0.01)

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        await EventStream(endless(), deadline)({"state": {"log": {}}}, asyncio.Event().wait, send)  # type: ignore[arg-type]

    asyncio.run(run())
    events = [json.loads(one["body"].removeprefix(b"data: ")) for one in sent if one.get("body")]
    assert events[-1]["error"]["code"] == "deadline"
    assert "10 s" in events[-1]["error"]["message"]
