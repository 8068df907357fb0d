"""The page in a browser: an image is dropped, its fields are shown; errors and foreign text do no harm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.extraction.answer import Answer, AnswerReader
from phisight.generate.completions import Completion
from phisight.report.pdf import find_browser
from tests.helpers import served
from tests.helpers.browser import Page, chromium
from tests.helpers.web_page import drop, transfer, until

NASTY = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'> " + "Long" * 60


class NastyReader(AnswerReader):
    """Answers as a malicious table may have taught them."""

    def read(self, completion: Completion) -> Answer:
        confidence = {"title": 0.91, "kind": 0.5, "price": 0.2}
        fields: dict[str, Any] = {"title": NASTY, "kind": "HATS", "price": 12.5}
        return Answer(fields, text=completion.text, confidence=confidence, interval={"price": (10.0, 15.25)})


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    model = served.served(reader=NastyReader(served.TASK))
    with served.running(model, examples=[served.image_bytes(5, kind="JPEG")], max_images=2) as (url, _):
        yield url


def test_the_page_is_one_file(address: str) -> None:
    response = httpx.get(address)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|/docs|#)""", response.text)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert len(response.content) < 200_000


pages = pytest.mark.skipif(find_browser() is None, reason="neither Chromium nor Chrome is installed")


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with chromium() as made:
        made.visit(address)
        yield made
        assert made.run("window.hit") is None, "a foreign script ran"
        assert all(url.startswith((address, "data:", "blob:", "about:")) for url in made.requests), made.requests


pytestmark = [pytest.mark.process, pytest.mark.slow]


@pages
def test_drop_read_map_and_json(page: Page) -> None:
    drop(page, served.image_bytes())
    until(page, "!document.getElementById('send').disabled")
    page.run("document.getElementById('send').click()")
    until(page, "document.getElementById('status').textContent.startsWith('Read 3')")
    shown = page.run("document.getElementById('fields').innerText")
    assert NASTY in shown.replace("\n", " ")
    assert "91 %" in shown
    assert "10 to 15.25" in shown
    assert json.loads(page.run("document.getElementById('json').textContent"))["fields"]["title"] == NASTY
    assert page.run("document.getElementById('text').textContent.length") > 10
    assert page.run("document.documentElement.scrollWidth <= innerWidth"), "a long title widens the page"
    page.run("document.getElementById('map').click()")
    until(page, "document.getElementById('map-status').textContent === 'Done.'", 120)
    assert page.run("document.getElementById('map-cells').childElementCount") == 36
    assert page.run("document.getElementById('map-words').textContent")


@pages
def test_paste_example_and_too_many(page: Page) -> None:
    page.run(
        f"document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: {transfer(served.image_bytes())}, "
        "bubbles: true, cancelable: true})), 0"
    )
    until(page, "document.querySelectorAll('#chosen img').length === 1")
    drop(page, served.image_bytes(1))
    until(page, "document.querySelectorAll('#chosen img').length === 2")
    drop(page, served.image_bytes(2))
    until(page, "document.getElementById('error').textContent.includes('At most 2')")
    page.run("document.querySelector('.example').click()")
    until(page, "document.getElementById('status').textContent.startsWith('Read 3')")
    assert page.run("document.querySelectorAll('#chosen img').length") == 1


@pages
@pytest.mark.parametrize(
    ("data", "kind", "message"), [(b"none", "image/png", "image 1"), (b"x", "text/plain", "no image")]
)
def test_errors_are_shown(page: Page, data: bytes, kind: str, message: str) -> None:
    drop(page, data, kind)
    if kind == "image/png":
        until(page, "!document.getElementById('send').disabled")
        page.run("document.getElementById('send').click()")
    until(page, f"document.getElementById('error').textContent.includes({json.dumps(message)})")
    assert page.run("document.getElementById('error').getAttribute('role')") == "alert"


@pages
def test_a_phone_a_keyboard_and_names_for_everything(page: Page) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    small = "[...document.querySelectorAll('button')].filter((b) => b.offsetHeight && b.offsetHeight < 44).length"
    assert page.run(small) == 0
    nameless = (
        "[...document.querySelectorAll('button, input, img, section')].filter((e) => !(e.textContent.trim() || e.alt "
        "|| e.labels?.length || e.getAttribute('aria-labelledby') || e.querySelector?.('img[alt]') "
        "|| e.id === 'map-image')).length"
    )
    assert page.run(nameless) == 0
    reached = set()
    for _ in range(8):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(page.run("document.activeElement.id || document.activeElement.className"))
    assert {"files", "skip", "example"} <= reached


@pages
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(page: Page, scheme: str) -> None:
    page.media(scheme=scheme)
    contrast = """(() => {
      const level = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) =>
        (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
      const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (!c.endsWith(', 0)') && c !== 'transparent') return c; } return 'rgb(255, 255, 255)'; };
      return Math.min(...[...document.querySelectorAll('h1, h2, h3, p, small, b, button, a, summary')].filter((e) =>
        e.offsetHeight && e.textContent.trim() && !e.disabled).map((e) => {
        const pair = [level(getComputedStyle(e).color), level(ground(e))].sort((a, b) => a - b);
        return (pair[1] + .05) / (pair[0] + .05); })); })()"""
    assert page.run(contrast) >= 4.5
