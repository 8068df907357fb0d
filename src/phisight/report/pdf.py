"""The report on paper: Chromium prints the page."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from phisight.core.errors import RunError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser() -> str | None:
    """Path of Chromium or Chrome, none where neither is installed."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def write_pdf(page: Path, out: Path | None = None) -> Path:
    """Print a report to a PDF beside it (or to ``out``); RunError where no browser is there or it fails."""
    browser = find_browser()
    if browser is None:
        raise RunError(
            f"a PDF needs Chromium or Chrome, and none of {', '.join(BROWSERS)} is on the path; "
            f"install one, or open {page} in a browser and print it"
        )
    path = out or page.with_suffix(".pdf")
    with tempfile.TemporaryDirectory() as profile:
        printing = ["--no-pdf-header-footer", f"--print-to-pdf={path.resolve()}"]
        command = [browser, *FLAGS, *_as_root(), f"--user-data-dir={profile}", *printing]
        try:
            done = subprocess.run(  # noqa: S603 - the browser found above, our own page
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=120, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{browser} did not print {page} within {error.timeout:.0f} s; print it by hand") from error
    if done.returncode != 0 or not path.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(f"{browser} ended with {done.returncode} and printed no PDF: {last}")
    return path


def _as_root() -> list[str]:
    """Chromium has no sandbox for root; the page is our own and runs no foreign script."""
    return ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
