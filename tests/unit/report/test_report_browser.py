"""The report in a real browser: filter, slider, dark, print; a silent console and no request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from phisight.report import write_pdf, write_report
from phisight.report.gallery import GRID
from phisight.report.pdf import find_browser
from tests.helpers.browser import Page, chromium
from tests.helpers.run_folder import HOSTILE, make_run

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(find_browser() is None, reason="neither Chromium nor Chrome is installed"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([make_run(tmp_path_factory.mktemp("report"), 70)])


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    browser.console.clear()
    browser.requests.clear()
    browser.media()
    browser.open(report)
    return browser


def choose(page: Page, select: str, value: str) -> int:
    """Choose in a filter; the number of images that are to be seen."""
    return int(
        page.run(
            f"(() => {{ const select = document.querySelector('.grid {select}'); select.value = {value!r};"
            "select.dispatchEvent(new Event('change'));"
            "return [...document.querySelectorAll('.grid .card')].filter((card) => card.offsetParent).length; })()"
        )
    )


def test_nothing_is_asked_of_a_network_and_nothing_said(page: Page, report: Path) -> None:
    assert [url for url in page.requests if not url.startswith("data:")] == [report.resolve().as_uri()]
    assert page.console == []
    assert page.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.run("document.querySelectorAll('.grid img').length") == 70
    assert page.run("document.querySelectorAll('.examples img').length") == 7
    assert page.run("document.querySelectorAll('.verdict .shot img').length") == 12


def test_the_filter_shows_what_was_chosen(page: Page) -> None:
    assert choose(page, ".by-set", "worst") == GRID
    assert choose(page, ".by-set", "random") == GRID
    assert choose(page, ".by-set", "") == 70
    assert choose(page, ".by-category", "COATS & JACKETS") == 14
    assert page.run("document.querySelector('.shown').textContent") == "14 images"
    visible = "[...document.querySelectorAll('.grid .card:not([hidden])')]"
    assert page.run(f"{visible}.every((card) => card.dataset.category === 'COATS & JACKETS')")
    assert choose(page, ".by-category", "") == 70
    unread = choose(page, ".by-field", "-unread")
    assert unread == sum(number % 9 == 4 for number in range(70))
    assert choose(page, ".by-field", "title") == sum(number % 3 == 1 and number % 9 != 4 for number in range(70))
    assert choose(page, ".by-field", "-right") + unread < 70
    assert page.console == []


def test_the_slider_shows_the_answers_of_its_step(page: Page) -> None:
    page.run("document.querySelector('.examples').parentElement.open = true")
    shown = (
        "[...document.querySelectorAll('.examples .answer')].filter((one) => one.offsetParent)"
        ".map((one) => one.textContent)"
    )
    assert all("at 100" in text for text in page.run(shown)[:6])
    page.run(
        "(() => { const s = document.querySelector('.step'); s.value = 1; s.dispatchEvent(new Event('input')); })()"
    )
    texts = page.run(shown)
    assert len(texts) == 7
    assert all("at 40" in text for text in texts[:6])
    assert page.run("document.querySelector('.examples output').textContent") == "40"
    assert page.console == []


def test_hostile_titles_are_text(page: Page) -> None:
    assert page.run("window.hacked") is None
    assert HOSTILE in page.run("document.querySelector('.grid').textContent")
    assert HOSTILE in page.run("document.querySelector('.examples').textContent")
    assert page.run("document.querySelectorAll('.card script, .card img[onerror]').length") == 0


def test_a_script_that_is_not_the_page_s_own_does_not_run(page: Page) -> None:
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.hacked = 1\">')")
    page.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s); })()"
    )
    assert page.run("window.hacked") is None
    assert any("Content Security Policy" in line for line in page.console)


def test_dark_and_light_differ_and_can_be_read(page: Page) -> None:
    contrast = """(() => {
      const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map((v) => { v /= 255;
        return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const paper = light(getComputedStyle(document.querySelector('section')).backgroundColor);
      return ['h2', '.quiet', '.right b', '.wrong b', 'a, .badge'].map((name) =>
        ratio(light(getComputedStyle(document.querySelector(name)).color), paper)); })()"""
    seen = {}
    for scheme in ("light", "dark"):
        page.media(scheme=scheme)
        assert min(page.run(contrast)) >= 4.5, scheme
        seen[scheme] = page.run("getComputedStyle(document.body).backgroundColor")
    assert seen["light"] != seen["dark"]


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_sticks_out_of_the_page(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert page.run("document.documentElement.scrollWidth") <= width
    page.call("Emulation.clearDeviceMetricsOverride")


def test_on_paper_controls_are_left_out(page: Page) -> None:
    page.media(media="print")
    assert page.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert page.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_two_runs_side_by_side(browser: Page, report: Path) -> None:
    both = write_report([report.parent, report.parent], report.parent / "both.html")
    browser.console.clear()
    browser.open(both)
    assert browser.run("document.querySelectorAll('details.run').length") == 2
    assert browser.run("document.querySelectorAll('details.run[open]').length") == 1
    assert browser.console == []


def test_pdf(report: Path) -> None:
    path = write_pdf(report)
    assert path == report.with_suffix(".pdf")
    data = path.read_bytes()
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") >= 3
