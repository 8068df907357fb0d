"""What an answer rests on: the occlusion map, and the training images that look most like one."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request as HttpRequest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.data.dataset.folder import DatasetFolder
from phisight.generate import Predictor, Request
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.serve import explain
from phisight.serve.engine.measurements import Measurements
from phisight.serve.engine.model_thread import ModelThread, SideWork
from phisight.serve.explain import CELLS, NearestImages, Occlusion
from phisight.serve.protocol.api_error import ApiError
from tests.helpers import served


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    folder = tmp_path_factory.mktemp("nearest") / "data"
    make(12, folder, seed=0, settings=preset("demo"), workers=1, overwrite=True)
    return DatasetFolder.open(folder)


def test_the_nearest_image_is_the_image_itself(data: DatasetFolder) -> None:
    row = data.rows("train")[3]
    body = {"images": [served.data_url(data.image_path(row).read_bytes(), "image/jpeg")]}
    with served.running(nearest=NearestImages(data)) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        found = client.post("/v1/nearest", json=body).raise_for_status().json()["matches"]
        assert "nearest-part" in client.get("/").text
    assert found[0]["distance"] == 0
    assert found[0]["fields"] == {name: row[name] for name in data.task.names}
    assert [one["distance"] for one in found] == sorted(one["distance"] for one in found)
    assert all(one["image"].startswith("data:image/jpeg;base64,") for one in found)


def test_a_missing_training_image_is_left_out(data: DatasetFolder, tmp_path: Path) -> None:
    images = NearestImages(data)
    gone = data.image_path(data.rows("train")[0])
    away = gone.rename(tmp_path / gone.name)
    try:
        assert len(images.find("0" * 16, "0" * 96, count=100)) == len(data.rows("train")) - 1
    finally:
        away.rename(gone)


def test_the_nearest_images_come_within_the_deadline(data: DatasetFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking through a large data set goes on; the client has its error by then."""
    go_on, ended = threading.Event(), threading.Event()
    find = NearestImages.find

    def slow(self: NearestImages, *arguments: Any) -> Any:
        go_on.wait(60)
        found = find(self, *arguments)
        ended.set()
        return found

    monkeypatch.setattr(NearestImages, "find", slow)
    body = {"images": [served.data_url(served.image_bytes())]}
    with (
        served.running(nearest=NearestImages(data), timeout_s=1) as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        response = client.post("/v1/nearest", json=body)
        go_on.set()
        assert served.is_error(response, 504, "deadline")
        assert ended.wait(60)


def test_without_a_data_set_there_is_no_such_endpoint() -> None:
    with served.running() as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        assert client.post("/v1/nearest", json={"images": ["data:,"]}).status_code == 404
        assert "nearest-part" not in client.get("/").text


def test_the_map_says_how_much_less_probable_the_answer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell against the likelihood of the answer on the image with that cell gray."""
    monkeypatch.setattr(explain, "CELLS", 3)
    assert CELLS == 6
    with served.running() as (url, server), httpx.Client(base_url=url, timeout=60) as client:
        body = {"images": [served.data_url(served.image_bytes())]}
        with client.stream("POST", "/v1/occlusion", json=body) as response:
            events = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        many = {"images": body["images"] * 2}
        assert client.post("/v1/occlusion", json=many).status_code == 400
        assert server.engine.load == (0, 0)
    head, *parts = (json.loads(event) for event in events[:-1])
    assert events[-1] == "[DONE]"
    cells = {(cell["row"], cell["column"]): cell["drop"] for part in parts for cell in part["cells"]}
    assert set(cells) == {(row, column) for row in range(3) for column in range(3)}
    image = served.decoded()
    gray = image.copy()
    gray.paste(tuple(round(value) for value in served.mean(image)), (32, 64, 64, 96))
    predictor = Predictor(*served.tiny(), batch_size=1)
    asked = [Request(served.TASK.prompt, [one]) for one in (image, gray)]
    values = dict(predictor.likelihoods(asked, [head["text"]] * 2))
    expected = values[0].log_probability - values[1].log_probability
    assert cells[2, 1] == pytest.approx(expected, abs=2e-3)


def test_maps_asked_for_at_the_same_moment_keep_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six requests that are read before the first map is begun: two maps, and four that are to come again."""
    begun: list[str] = []

    async def scenario() -> list[Any]:
        go_on = asyncio.Event()

        async def answer(self: Occlusion, file: bytes, client: str) -> str:
            begun.append(client)
            await go_on.wait()
            raise ApiError(500, "far enough")

        async def file_of(_: Any) -> bytes:
            return b"an image"

        def request(name: str) -> HttpRequest:
            bodies = iter([b""])

            async def receive() -> dict[str, Any]:
                for body in bodies:
                    return {"type": "http.request", "body": body}
                staying: asyncio.Future[dict[str, Any]] = asyncio.Future()
                return await staying

            return HttpRequest({"type": "http", "state": {"client": name}}, receive)

        monkeypatch.setattr(Occlusion, "_answer", answer)
        nothing: Any = None
        maps = Occlusion(nothing, nothing, nothing, file_of, seconds=60)
        asked = [asyncio.ensure_future(maps(request(f"client {number}"))) for number in range(6)]
        for _ in range(50):
            await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(scenario())
    assert len(begun) == explain.MOST_MAPS
    assert sorted(one.status for one in found) == [429] * 4 + [500] * explain.MOST_MAPS


def test_a_map_that_fails_is_told_and_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def failing(*_: Any) -> Iterator[list[dict[str, float]]]:
        yield [{"row": 0, "column": 0, "drop": 0.0}]
        raise ZeroDivisionError("a text that holds what a client sent")

    monkeypatch.setattr(explain, "cells", failing)
    with served.running() as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        body = {"images": [served.data_url(served.image_bytes())]}
        with client.stream("POST", "/v1/occlusion", json=body) as response:
            events = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
    assert events[-1]["error"]["code"] == "model_failed"
    assert "work beside answers failed: ZeroDivisionError at " in caplog.text
    assert "what a client sent" not in caplog.text


def test_work_beside_answers_is_told_that_the_server_stops() -> None:
    told: list[list[Any]] = [[], []]
    thread = ModelThread(
        *served.tiny(), None, max_sequences=2, share=2, measurements=Measurements(), deliver=lambda _: None
    )
    for pieces in told:
        thread.beside(SideWork(itertools.repeat(1), pieces.append))
    thread.start()
    thread.stop()
    assert [pieces[-1].status for pieces in told] == [503, 503]
