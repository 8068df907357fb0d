"""The page in a browser while something goes on: answers and maps are stopped, the nearest images are shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.data.dataset.folder import DatasetFolder
from phisight.report.pdf import find_browser
from phisight.sample.catalogue.presets import preset
from phisight.sample.draw_catalogue import make
from phisight.serve import explain
from phisight.serve.app import Server
from phisight.serve.explain import NearestImages
from tests.helpers import served
from tests.helpers.browser import Page, chromium
from tests.helpers.held_steps import held_steps
from tests.helpers.web_page import click, drop, text_of, until

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="neither Chromium nor Chrome is installed"),
]
MAPS = b'phisight_answers_total{path="/v1/occlusion"'
NASTY = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"


class NastyImages(NearestImages):
    """A data set whose titles a stranger wrote."""

    def find(self, phash: str, colors: str, count: int = 6) -> list[dict[str, Any]]:
        found = super().find(phash, colors, count)
        for match in found:
            match["fields"]["title"] = NASTY
        return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DatasetFolder:
    folder = tmp_path_factory.mktemp("near") / "data"
    make(9, folder, seed=0, settings=preset("demo"), workers=1)
    return DatasetFolder.open(folder)


@pytest.fixture(scope="module")
def listening(data: DatasetFolder) -> Iterator[tuple[str, Server]]:
    with served.running(nearest=NastyImages(data), timeout_s=300) as found:
        yield found


@pytest.fixture
def page(listening: tuple[str, Server]) -> Iterator[Page]:
    """The page with an image chosen; no foreign script runs, and nothing else is asked."""
    address = listening[0]
    with chromium() as made:
        made.visit(address)
        drop(made, served.image_bytes())
        until(made, "!document.getElementById('send').disabled")
        yield made
        assert made.run("window.hit") is None, "a foreign script ran"
        assert all(url.startswith((address, "data:", "blob:", "about:")) for url in made.requests), made.requests


def reached(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_an_answer_is_stopped_and_asked_for_anew(page: Page, listening: tuple[str, Server]) -> None:
    engine = listening[1].engine
    with held_steps() as steps:
        click(page, "send")
        reached(lambda: bool(steps.rows), "no answer was begun")
        until(page, "!document.getElementById('stop').hidden")
        click(page, "stop")
        until(page, "document.getElementById('status').textContent === 'Stopped.'")
        reached(lambda: engine.load == (0, 0), "an answer that was stopped is still in work")
    assert page.run("document.getElementById('stop').hidden")
    assert page.run("document.getElementById('error').hidden")
    click(page, "send")
    until(page, "document.getElementById('status').textContent.startsWith('Read 3')")


def test_a_map_is_stopped_and_begun_anew(
    page: Page, listening: tuple[str, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells are held after the first; the server begins no other once the button was pressed."""
    click(page, "send")
    until(page, "document.getElementById('status').textContent.startsWith('Read 3')")
    server = listening[1]
    assert MAPS not in server.measurements.text()
    allowed, begun = threading.Semaphore(1), list[int]()

    def held(*_: Any) -> Iterator[list[dict[str, float]]]:
        while True:
            begun.append(len(begun))
            allowed.acquire()
            yield [{"row": 0, "column": 0, "drop": 1.0}]

    with monkeypatch.context() as patch:
        patch.setattr(explain, "cells", held)
        click(page, "map")
        until(page, "document.getElementById('map-status').textContent === '1 of 36 parts'")
        reached(lambda: len(begun) == 2, "the second cell was not begun")
        click(page, "map-stop")
        until(page, "document.getElementById('map-status').textContent === 'Stopped.'")
        reached(lambda: MAPS in server.measurements.text(), "the server has not seen that the client left")
        for _ in range(9):
            allowed.release()
    assert page.run("document.getElementById('map-stop').hidden")
    click(page, "map")
    until(page, "document.getElementById('map-status').textContent === 'Done.'", 120)
    assert len(begun) <= 3, "a map went on that was stopped"


def test_the_nearest_images_are_shown_with_foreign_text_as_text(page: Page) -> None:
    click(page, "send")
    until(page, "document.querySelectorAll('#nearest img').length === 6", 120)
    until(page, "[...document.querySelectorAll('#nearest img')].every((one) => one.complete && one.naturalWidth > 0)")
    assert NASTY in text_of(page, "nearest")
    assert page.run("document.querySelectorAll('#nearest script').length") == 0
    assert page.run("[...document.querySelectorAll('#nearest img')].every((one) => one.src.startsWith('data:'))")
    assert text_of(page, "nearest-status") == "By colors and outline."


def test_a_failure_of_the_nearest_images_leaves_the_answer(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(NearestImages, "find", fails)
    click(page, "send")
    until(page, "document.getElementById('nearest-status').textContent.startsWith('an error of the server')")
    assert text_of(page, "status").startswith("Read 3")
    assert "secret" not in page.run("document.body.innerText")


def test_a_map_needs_one_image(page: Page) -> None:
    drop(page, served.image_bytes(1))
    until(page, "document.querySelectorAll('#chosen img').length === 2")
    click(page, "send")
    until(page, "document.getElementById('status').textContent.startsWith('Read 3')")
    assert page.run("document.getElementById('map-part').hidden")
