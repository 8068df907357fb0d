"""Requests that are almost right, and images that are almost whole: the protocol's error or an answer, never a 500."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.helpers import served

URL = served.data_url(served.image_bytes(side=40))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}
CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "Short."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": URL}}],
        },
    ],
    "max_tokens": 30,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 3,
    "n": 1,
    "stop": ["x"],
    "stream": False,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "text"},
}
HELD: dict[str, Any] = {
    key: value for key, value in CHAT.items() if key not in ("stop", "response_format", "stream")
} | {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}}
TYPED: dict[str, Any] = {"images": [URL], "model": "tiny", "stream": False}
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 0.1, -0.0, 1e308, "", " ", "x", "\0", "\u202e", "<|end|>",
    "\U0001f600" * 3, "a" * 3000, [], [[]], [None], {}, {"": ""}, {"type": "text"}, {"$ref": "#"}, URL, "json_object",
    "data:image/png;base64,",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


def mutated(body: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """A body with one to three things changed: a value replaced, removed, repeated, moved, or a key added."""
    body = copy.deepcopy(body)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        every = list(places(body))
        if not every:
            return body
        path = draw.choice(every)
        parent: Any = body
        for key in path[:-1]:
            parent = parent[key]
        kind = draw.choice(["replace", "remove", "repeat", "swap", "add"])
        if kind == "replace":
            parent[path[-1]] = near(parent[path[-1]]) if draw.random() < 0.4 else copy.deepcopy(draw.choice(VALUES))
        elif kind == "remove":
            del parent[path[-1]]
        elif kind == "repeat" and isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[path[-1]]) for _ in range(draw.choice([1, 20])))
        elif kind == "swap":
            other = draw.choice(every)
            found: Any = body
            for key in other:
                found = found[key]
            parent[path[-1]] = copy.deepcopy(found)
        elif isinstance(parent, dict):
            parent[draw.choice(["tools", "x", "pattern", "n", "enum", "items", "$ref", "name"])] = draw.choice(VALUES)
    return body


def near(value: Any) -> Any:
    """A value of the same kind."""
    if isinstance(value, bool | None):
        return not value
    if isinstance(value, int | float):
        return value / 2 if isinstance(value, float) else value + 1
    return f"{value} more" if isinstance(value, str) else value


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served.running() as (url, _), httpx.Client(base_url=url, timeout=60) as made:
        yield made


def check(response: httpx.Response, sent: object) -> int:
    """An answer, or an error in the protocol's form that names no inside."""
    assert response.status_code in (200, 400, 404), (response.status_code, sent, response.text)
    if response.status_code != 200:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"], sent
        assert "Traceback" not in error["message"]
        assert ".py" not in error["message"]
    return response.status_code


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["chat", "held", "typed"])
def test_requests_that_are_almost_right(client: httpx.Client, name: str, seed: int) -> None:
    draw = random.Random(f"{name} {seed}")
    body, path = {"chat": (CHAT, "chat/completions"), "held": (HELD, "chat/completions"), "typed": (TYPED, "extract")}[
        name
    ]
    assert client.post(f"/v1/{path}", json=body).status_code == 200
    seen = []
    for _ in range(25):
        sent = mutated(body, draw)
        response = client.post(f"/v1/{path}", content=json.dumps(sent), headers={"content-type": "application/json"})
        seen.append(check(response, sent))
    assert len(set(seen)) > 1, "mutations that change nothing, or break everything, test little"
    assert client.get("/ready").json()["in_work"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_images_that_are_almost_whole(client: httpx.Client, kind: str) -> None:
    draw = random.Random(kind)
    whole = served.image_bytes(3, 48, kind)
    assert client.post("/v1/extract", json={"images": [served.data_url(whole)]}).status_code == 200
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 4, 60])):
            data[draw.randrange(len(data) if draw.random() < 0.5 else min(len(data), 64))] = draw.randrange(256)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        check(client.post("/v1/extract", files=[("image", ("a", bytes(data)))]), bytes(data[:80]))
    assert client.get("/ready").json()["in_work"] == 0
