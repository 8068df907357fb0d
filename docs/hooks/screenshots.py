"""The images of the documents, taken from the real pages by a headless Chromium.

    python -m docs.hooks.screenshots RUN [--photos RUN] [--out docs/images]

RUN is an evaluated run with a report, such as that of ``phisight demo``; ``--photos`` one of real photographs, of which
the image shows figures only. The sheets of drawn products are drawn anew, the server's page is asked about its first
example.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from phisight.report.pdf import find_browser
from tests.helpers.browser import Page, chromium

QUALITY = 85
PATIENCE = 300
SHEETS = {
    "sample-contact-sheet": ["--rows", "64", "--preset", "fashion", "--seed", "1"],
    "sample-demo": ["--rows", "24", "--preset", "demo", "--seed", "1"],
}
SHEET_WIDTH = 1280
FROM_THE_TOP = "0"


def bottom_of(selector: str) -> str:
    """JavaScript: where an element ends on the page, in CSS pixels."""
    return f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().bottom + scrollY + 24"


def section(title: str) -> str:
    """JavaScript: the section of the report with this heading."""
    return f"[...document.querySelectorAll('section')].find((one) => one.querySelector('h2')?.innerText == '{title}')"


def top_and_bottom(first: str, last: str) -> tuple[str, str]:
    """JavaScript: where the section ``first`` begins and ``last`` ends."""
    return (
        f"{section(first)}.getBoundingClientRect().top + scrollY - 12",
        f"{section(last)}.getBoundingClientRect().bottom + scrollY + 12",
    )


def shoot(page: Page, out: Path, width: int, top: str, bottom: str) -> None:
    """Write the part of a page between two heights as JPEG, ``width`` pixels wide."""
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    time.sleep(0.5)  # charts and images find their places
    upper, lower = float(page.run(top)), float(page.run(bottom))
    clip = {"x": 0, "y": upper, "width": width, "height": lower - upper, "scale": 1}
    data = page.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
    save(Image.open(io.BytesIO(base64.b64decode(data))), out)


def save(image: Image.Image, out: Path) -> None:
    """Write an image of the documents."""
    out.parent.mkdir(parents=True, exist_ok=True)
    image.convert("RGB").save(out, quality=QUALITY, optimize=True, progressive=True)
    print(f"{out}  {image.width} x {image.height}, {out.stat().st_size // 1000} kB")


def reports(page: Page, run: Path, out: Path) -> None:
    """The images of a run's report."""
    page.media(scheme="light")
    page.open(run / "report.html")
    shoot(page, out / "demo-report.jpg", 1100, FROM_THE_TOP, bottom_of(".verdict"))
    shoot(page, out / "report-verdict.jpg", 1280, FROM_THE_TOP, bottom_of(".verdict"))
    page.run("document.querySelectorAll('.examples').forEach((one) => { one.closest('details').open = true })")
    top, _ = top_and_bottom("Training", "Training")
    shoot(page, out / "report-training.jpg", 1280, top, bottom_of(".examples .card:nth-child(6)"))
    shoot(page, out / "report-phone.jpg", 390, FROM_THE_TOP, bottom_of(".twelve > div"))
    page.media(scheme="dark")
    shoot(page, out / "report-dark.jpg", 1280, *top_and_bottom("Where it fails", "What to do next"))
    page.media(scheme="light")


def photographs(page: Page, run: Path, out: Path) -> None:
    """The verdict of a run on real photographs, without the photographs."""
    page.open(run / "report.html")
    shoot(page, out / "report-photos.jpg", 1100, FROM_THE_TOP, bottom_of(".tiles"))


def until(page: Page, expression: str) -> None:
    """Wait until an expression of JavaScript is true."""
    deadline = time.monotonic() + PATIENCE
    while not page.run(expression):
        assert time.monotonic() < deadline, f"{expression} stayed false: {page.run('document.body.innerText')}"
        time.sleep(0.2)


@contextmanager
def serving(run: Path, folder: Path) -> Iterator[str]:
    """The address of a server that has loaded a run; it ends with the block."""
    command = [sys.executable, "-m", "phisight", "serve", str(run), "--port", "0"]
    with (folder / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - our own program
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            text = (folder / "server.log").read_text(encoding="utf-8")
            if found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", text):
                yield found[0]
                return
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {text}")
            time.sleep(0.2)
    finally:
        server.terminate()
        server.wait(60)


def served_page(page: Page, run: Path, out: Path) -> None:
    """The server's page with an answer and the map of what mattered."""
    with tempfile.TemporaryDirectory() as name, serving(run, Path(name)) as address:
        page.visit(address)
        page.run("document.querySelector('.example').click()")
        until(page, "!document.querySelector('#send').disabled")
        page.run("document.querySelector('#send').click()")
        until(page, "!document.querySelector('#shown').hidden && document.querySelector('#fields').children.length > 0")
        page.run("document.querySelector('#map').click()")
        until(page, "document.querySelector('#map-words').innerText.length > 0")
        until(page, "!document.querySelector('#nearest-status')?.innerText.startsWith('Looking')")
        shoot(page, out / "serve-page.jpg", 1100, FROM_THE_TOP, "document.documentElement.scrollHeight")
        shoot(page, out / "serve-phone.jpg", 360, FROM_THE_TOP, "document.documentElement.scrollHeight")


def sheets(out: Path) -> None:
    """The contact sheets of drawn products."""
    for name, options in SHEETS.items():
        with tempfile.TemporaryDirectory() as folder:
            sheet = Path(folder) / "sheet.png"
            words = ["sample", "make", *options, "--out", str(Path(folder) / "data"), "--sheet", str(sheet)]
            subprocess.run([sys.executable, "-m", "phisight", *words], check=True)  # noqa: S603 - our own program
            with Image.open(sheet) as image:
                height = round(image.height * SHEET_WIDTH / image.width)
                save(image.convert("RGB").resize((SHEET_WIDTH, height), Image.Resampling.LANCZOS), out / f"{name}.jpg")


def main() -> None:
    """Take all images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    if find_browser() is None:
        sys.exit("the images need Chromium or Chrome, and neither is on the path")
    for run in filter(None, (given.run, given.photos)):
        if not (run / "report.html").is_file():
            sys.exit(f"{run} has no report.html: phisight evaluate {run}, then phisight report {run}")
    with chromium() as page:
        reports(page, given.run, given.out)
        if given.photos:
            photographs(page, given.photos, given.out)
        served_page(page, given.run, given.out)
    sheets(given.out)


if __name__ == "__main__":
    main()
