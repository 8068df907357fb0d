"""``/v1/extract``: the fields, confidences and intervals of ``extract`` alone, by JSON and by form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.extraction.answer import AnswerReader
from phisight.extraction.familiarity import Familiarity
from tests.helpers import served

READER = AnswerReader(served.TASK, {"price": lambda value: (value - 1, value + 1)}, {"title": lambda value: value / 2})


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        served.running(served.served(reader=READER), max_images=2) as (url, _),
        httpx.Client(base_url=url, timeout=60) as made,
    ):
        yield made


def extracted(client: httpx.Client, *images: bytes, **changes: Any) -> httpx.Response:
    return client.post("/v1/extract", json={"images": [served.data_url(one) for one in images], **changes})


def test_the_fields_are_those_of_extract(client: httpx.Client) -> None:
    alone = served.extractor().extract(served.image_bytes())
    found = extracted(client, served.image_bytes()).raise_for_status().json()
    assert found["fields"] == alone
    assert found["text"] == alone.text
    assert found["error"] is None
    assert found["confidence"] == pytest.approx({**alone.confidence, "title": alone.confidence["title"] / 2}, abs=1e-5)
    assert found["overall_confidence"] == min(found["confidence"].values())
    price = found["fields"]["price"]
    assert found["interval"] == {"price": [price - 1, price + 1]}
    jsonschema.validate(found["fields"], client.get("/v1/schema").json())


@pytest.mark.parametrize("name", ["image", "file"])
def test_files_of_a_form(client: httpx.Client, name: str) -> None:
    by_json = extracted(client, served.image_bytes(1), served.image_bytes(2)).json()
    files = [(name, (f"{number}.png", served.image_bytes(number), "image/png")) for number in (1, 2)]
    by_form = client.post("/v1/extract", files=files).raise_for_status().json()
    assert by_form["fields"] == by_json["fields"]
    assert by_form["usage"] == by_json["usage"]


@pytest.mark.parametrize("form", [True, False])
def test_a_stream_ends_with_the_fields(client: httpx.Client, form: bool) -> None:
    image = served.image_bytes()
    asked: dict[str, Any] = {"json": {"images": [served.data_url(image)], "stream": True}}
    if form:
        asked = {"files": [("image", ("a.png", image))], "data": {"stream": "true", "model": "tiny"}}
    with client.stream("POST", "/v1/extract", **asked) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    *deltas, answer = (json.loads(event) for event in events[:-1])
    assert events[-1] == "[DONE]"
    assert "".join(one["delta"] for one in deltas) == answer["text"]
    assert answer["fields"] == extracted(client, image).json()["fields"]
    assert len(deltas) > 3


@pytest.mark.parametrize(("threshold", "refused"), [(1e-3, True), (1e9, False)])
def test_an_unfamiliar_image_is_refused_as_by_a_prediction(threshold: float, refused: bool) -> None:
    width = 24 * served.tiny()[0].config.vision_config.hidden_size
    flat = np.ones(width, np.float32)
    known = Familiarity(0 * flat, flat, np.eye(1, width, dtype=np.float32), flat[:2], threshold, 0.01, 9, 9)
    reader = AnswerReader(served.TASK.abstaining(), familiarity=known)
    with (
        served.running(served.served(reader=reader)) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        found = extracted(client, served.image_bytes()).raise_for_status().json()
    assert (found["unfamiliar"] > 1) is refused
    assert all((value is None) is refused for value in found["fields"].values())
    assert (found["overall_confidence"] is None) is refused
    assert found["error"] is None
    assert found["text"].startswith("Name: ")


def test_free_answers_that_cannot_be_read_are_told_so() -> None:
    with served.running(served.served(held=False)) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        found = extracted(client, served.image_bytes()).raise_for_status().json()
    assert found["fields"] is None
    assert found["error"].startswith("not read: ")
    assert found["text"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"images": []}, "images"),
    ({}, "images"),
    ({"images": "data:"}, "images"),
    ({"images": [1]}, "images[0]"),
    ({"images": ["data:image/png;base64"]}, "images[0]"),
    ({"images": ["data:image/png;base64,!!!"]}, "images[0]"),
    ({"images": ["https://example.org/a.png"]}, "images[0]"),
    ({"images": ["file:///etc/passwd"]}, "images[0]"),
    ({"images": ["/etc/passwd"]}, "images[0]"),
    ({"images": ["data:image/png;base64,AAAA"] * 3}, "images[2]"),
    ({"images": ["data:image/png;base64,AAAA"], "temperature": 1}, "temperature"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_what_is_wrong_is_named(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    response = client.post("/v1/extract", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"files": [("other", ("a.png", b"x"))]}, "other"),
        ({"files": [("image", ("a.png", served.image_bytes()))], "data": {"prompt": "x"}}, "prompt"),
        ({"files": [("image", ("a.png", served.image_bytes()))], "data": {"stream": "maybe"}}, "stream"),
        ({"data": {"stream": "true"}, "files": [("x", (None, "y"))]}, "x"),
        ({"files": [("image", (f"{n}.png", served.image_bytes())) for n in range(3)]}, None),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "image"),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, None),
    ],
)
def test_a_wrong_form_is_refused(client: httpx.Client, asked: dict[str, Any], param: str | None) -> None:
    response = client.post("/v1/extract", **asked)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


def test_an_image_that_is_none_is_refused_and_the_next_is_answered(client: httpx.Client) -> None:
    for bad in (b"", b"not an image", served.image_bytes()[:200], b"GIF89a", b"<html></html>"):
        response = extracted(client, bad)
        assert response.status_code == 400, bad
        assert response.json()["error"]["code"] == "invalid_image"
    assert extracted(client, served.image_bytes()).status_code == 200
