"""docs/serving.md from its first command to its last: a run, ``phisight serve``, curl, Python, the page."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from phisight.report.pdf import find_browser
from tests.helpers import served
from tests.helpers.browser import chromium
from tests.helpers.documented import ROOT, Block, PageRun, blocks_of, command_lines
from tests.helpers.web_page import click, drop, text_of, until

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = blocks_of(PAGE, "docs/serving.md")
SHELL = [block for block in BLOCKS if block.language == "sh"]
CODE = [block for block in BLOCKS if block.language == "python"]
LINES = [(block, words) for block in SHELL for words in command_lines(block)]
BEGIN = ["pip", "phisight demo", "phisight serve"]
"""What the page begins with; the installation is not run: the test has one."""
FIELDS = {"title", "category3_code", "full_price"}

pytestmark = [pytest.mark.process, pytest.mark.slow]


def name_of(words: list[str]) -> str:
    return " ".join(words[:2]) if words[0] == "phisight" else words[0]


def of(words: list[str]) -> Block:
    """One command as a block of its own."""
    block = next(block for block, line in LINES if line == words)
    return block._replace(marks="run small", text=shlex.join(words) + "\n")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageRun]:
    """The page's run, small, and its server."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "photo.jpg").write_bytes(served.image_bytes(kind="JPEG"))
    (folder / "photos").mkdir()
    for number in range(3):
        (folder / "photos" / f"{number}.jpg").write_bytes(served.image_bytes(number, kind="JPEG"))
    with PageRun(folder) as made:
        for _, words in LINES[1 : len(BEGIN)]:
            made.execute(of(words))
        yield made


def test_the_page_has_these_commands() -> None:
    """All are run below, whatever is added: curl and predict one by one, the others by the fixture."""
    assert [name_of(words) for _, words in LINES[: len(BEGIN)]] == BEGIN
    assert {name_of(words) for _, words in LINES[len(BEGIN) :]} == {"curl", "phisight predict"}
    assert len(CODE) == 1
    assert PAGE.count("`phisight predict ") + PAGE.count("`curl ") + PAGE.count("`phisight serve ") == 0, (
        "a command outside of a block is not run"
    )


CURL = [words for _, words in LINES if words[0] == "curl"]


@pytest.mark.parametrize("words", CURL, ids=[words[-1] for words in CURL])
def test_curl(page: PageRun, words: list[str]) -> None:
    page.execute(of(words))
    found = page.output
    if words[-1].endswith("/metrics"):
        assert "phisight_queue_jobs" in found
        return
    answer = json.loads(found)
    what = words[-1].rpartition("/")[2]
    assert what in ("models", "extract", "schema", "ready")
    if what == "models":
        assert [one["id"] for one in answer["data"]] == ["demo"]
    elif what == "extract":
        assert set(answer["fields"]) == set(answer["confidence"]) == FIELDS
    elif what == "schema":
        assert set(answer["properties"]) == FIELDS
    else:
        assert answer["status"] == "ready"


def test_the_openai_client(page: PageRun) -> None:
    pytest.importorskip("openai", reason="the official client is not installed")
    page.execute(CODE[0])
    last = page.output[page.output.rindex("{") :]
    assert all(f"'{name}': " in last for name in FIELDS)


@pytest.mark.parametrize("words", [words for _, words in LINES if words[:2] == ["phisight", "predict"]])
def test_whole_folders(page: PageRun, words: list[str]) -> None:
    page.execute(of(words))
    with (page.folder / words[words.index("--out") + 1]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert set(rows[0]) >= FIELDS
    assert all(row["category3_code"] for row in rows)


@pytest.mark.skipif(find_browser() is None, reason="neither Chromium nor Chrome is installed")
def test_the_page_in_a_browser(page: PageRun) -> None:
    """The address that the process printed: an example is clicked, an image is dropped, the nearest are shown."""
    with chromium() as browser:
        browser.visit(page.address)
        browser.run("document.querySelector('.example').click()")
        until(browser, "document.getElementById('status').textContent.startsWith('Read 3')", 120)
        until(browser, "document.querySelectorAll('#nearest img').length === 6", 120)
        click(browser, "clear")
        drop(browser, served.image_bytes(4, kind="JPEG"), "image/jpeg")
        until(browser, "!document.getElementById('send').disabled")
        click(browser, "send")
        until(browser, "document.getElementById('status').textContent.startsWith('Read 3')", 120)
        assert set(json.loads(text_of(browser, "json"))["fields"]) == FIELDS
        assert all(url.startswith((page.address, "data:", "blob:", "about:")) for url in browser.requests)
